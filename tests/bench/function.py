"""One function as Lambda runs it: the shipped binary behind a Runtime API of its own, at a Lambda's size."""
import collections
import json
import queue
import re
import subprocess
import threading
import time
import uuid
from pathlib import Path
from typing import NamedTuple

import cgroup
import wire
from scanners import ACCOUNT, REGION

# It waits for one line before it becomes the function, so that what it costs to be started is not the function's.
STARTER = ["/bin/sh", "-c", 'read -r go && exec "$0"']


class Invocation(NamedTuple):
    sent: int  # when the event was handed over, and when its answer came: monotonic clock, ns
    done: int
    ok: bool
    body: bytes
    cpu_ms: float

    @property
    def ms(self):
        return (self.done - self.sent) / 1e6


class Function:
    """`memory_mb` None: neither limited nor throttled."""

    def __init__(self, binary, environment, memory_mb=None, name="on-deploy"):
        self.events, self.answers, self.ready, self.said = queue.Queue(), queue.Queue(), threading.Event(), collections.deque(maxlen=200)
        self.arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:ecr-scan-verifier-main-{name}"
        self.asked, self.listener = None, None
        self.listener, port = wire.listen()
        wire.serve(self.listener, self.runtime_api)
        environment = {
            "PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "en_US.UTF-8", "TZ": ":UTC",
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{port}", "AWS_LAMBDA_FUNCTION_NAME": f"ecr-scan-verifier-main-{name}",
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(memory_mb or 1769), "_HANDLER": "bootstrap",
            "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{name}", "AWS_LAMBDA_LOG_STREAM_NAME": "bench", "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "AWS_REGION": REGION, "AWS_DEFAULT_REGION": REGION, "AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench", "AWS_SESSION_TOKEN": "bench",
            **environment,
        }
        self.group = cgroup.Group(memory_mb) if memory_mb and cgroup.version() else None
        streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        self.process = subprocess.Popen([*STARTER, str(binary)], env=environment, cwd="/tmp", **streams)
        threading.Thread(target=lambda: self.said.extend(self.process.stdout), daemon=True).start()
        if self.group:
            self.group.take_in(self.process.pid)
        time.sleep(0.02)  # the shell is at its line by now
        cpu, began = self.cpu_ms(), time.monotonic_ns()
        self.process.stdin.write(b"go\n")
        self.process.stdin.close()
        if not self.ready.wait(30):
            self.fail("it has not come up")
        if self.group:
            self.group.throttle()
        self.init_ms, self.init_cpu_ms = (self.asked[0] - began) / 1e6, self.asked[1] - cpu
        time.sleep(0.05)  # a whole period of its share lies before the first event

    def fail(self, why):
        said = b"".join(self.said).decode(errors="replace")
        self.end()
        raise RuntimeError(f"{self.arn.rsplit(':')[-1]}: {why}; it said:\n{said}")

    def cpu_ms(self):
        """All its threads', those that have ended too. The number is Linux's name for another process's clock (clock_getcpuclockid)."""
        return time.clock_gettime_ns((~self.process.pid << 3) | 2) / 1e6

    def peak_mib(self):
        return int(re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{self.process.pid}/status").read_text())[1]) / 1024

    def runtime_api(self, connection, request):
        if request.target.endswith("/invocation/next"):
            if not self.ready.is_set():
                self.asked = (request.at, self.cpu_ms())
                self.ready.set()
            event = self.events.get()
            headers = [
                ("content-type", "application/json"), ("lambda-runtime-aws-request-id", str(uuid.uuid4())), ("lambda-runtime-invoked-function-arn", self.arn),
                ("lambda-runtime-deadline-ms", int(time.time() * 1000) + 120_000), ("lambda-runtime-trace-id", "Root=1-6a7b8c9d-0123456789abcdef01234567;Sampled=0"),
            ]
            self.sent = time.monotonic_ns()
            wire.write_answer(connection, 200, event, headers)
            return
        self.answers.put((request.at, request.target.endswith("/response"), request.body))
        wire.write_answer(connection, 202, b'{"status":"OK"}', [("content-type", "application/json")])

    def give(self, event, patience_s=120):
        """Hands an event over and waits for what comes of it."""
        cpu, until = self.cpu_ms(), time.monotonic() + patience_s
        self.events.put(json.dumps(event).encode())
        while True:
            try:
                done, ok, body = self.answers.get(timeout=0.2)
            except queue.Empty:
                if self.process.poll() is not None:
                    self.fail(f"it has ended with {self.process.returncode}")
                if time.monotonic() > until:
                    self.fail("no answer")
                continue
            if not ok:
                self.fail(f"it has failed: {body.decode(errors='replace')}")
            return Invocation(self.sent, done, ok, body, self.cpu_ms() - cpu)

    def end(self):
        self.process.kill()
        self.process.wait()
        self.listener.close()
        if self.group:
            self.group.remove()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()
