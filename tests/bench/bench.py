#!/usr/bin/env python3
"""Measures the shipped functions as Lambda would run them, on loopback: `make bench`. What the numbers mean: docs/performance.md.

    bench.py [--arch x86_64] [--only on-deploy|on-scan|release|zips] [--rounds N] [--latency-ms 5] [--floor BINARY] [--than FOLDER] [--json FILE] [--ready]
"""
import argparse
import collections
import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import urllib.request
import zipfile
from pathlib import Path

sys.dont_write_bytecode = True
import cgroup
import events
from certificates import Certificates
from function import Function
from report import Row, show_all
from scanners import ACCOUNT, REGION, digest

HERE = Path(__file__).resolve().parent
BINARIES = HERE.parents[1] / "infra" / "binaries"
FUNCTIONS = ("on-push", "on-scan", "on-deploy", "on-sweep")
WARM = 50
# As the construct writes it for gates that block at CRITICAL and HIGH.
POLICY = '{"severity":["CRITICAL","HIGH"]}'


def known(n):
    """What one of the eight policies ignores besides. With it the counts alone do not say what blocks: the verdict has to be recorded."""
    return [f"CVE-1999-{n}"]


class Bench:
    def __init__(self, options, folder):
        self.options, self.rows, self.notes = options, [], []
        self.certificates = Certificates(folder)
        command = [sys.executable, str(HERE / "stand_in.py"), str(self.certificates.certificate), str(self.certificates.key), str(options.latency_ms)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.ports = json.loads(self.process.stdout.readline())
        self.group = cgroup.Group() if cgroup.version() else None
        if self.group:
            # Whoever answers must not be what is waited for.
            self.group.take_in(self.process.pid)
        # S3 is called by its address, or the bucket would be part of a host name that does not resolve.
        origin = lambda service, host="localhost": f"https://{host}:{self.ports[service]}"
        self.answers = origin("answers")
        table = lambda name: f"ecr-scan-verifier-main-{name}"
        self.environment = {
            "PIPELINE": "main", "VERDICTS_TABLE": table("verdicts"), "REQUESTS_TABLE": table("requests"), "DEPLOYMENTS_TABLE": table("deployments"),
            "SCAN_QUEUE_URL": f"https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/scan", "FINDINGS_BUCKET": "findings", "PIPELINE_POLICY": POLICY,
            "TEST_ANSWER_ORIGIN": self.answers, "SSL_CERT_FILE": str(self.certificates.bundle),
            "AWS_ENDPOINT_URL": origin("others"), "AWS_ENDPOINT_URL_DYNAMODB": origin("dynamodb"), "AWS_ENDPOINT_URL_ECR": origin("ecr"),
            "AWS_ENDPOINT_URL_INSPECTOR2": origin("inspector2"), "AWS_ENDPOINT_URL_SQS": origin("sqs"), "AWS_ENDPOINT_URL_S3": origin("s3", "127.0.0.1"),
        }

    def end(self):
        self.process.stdin.close()
        self.process.wait()
        if self.group:
            self.group.remove()

    def tell(self, what, **said):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports['told']}/{what}", json.dumps(said).encode()) as answer:
            return json.load(answer)

    def start(self, name, memory_mb=None, than=False):
        """`than`: the other binaries that these are compared with."""
        binary = self.options.floor if name == "floor" else (self.options.than if than else BINARIES / self.options.arch) / name / "bootstrap"
        return Function(binary, self.environment, memory_mb, name)

    def calls(self, *operations):
        """The calls since the last time, of these operations or all, in the order in which they came."""
        calls = sorted(self.tell("calls"), key=lambda call: call["came"])
        return [call for call in calls if not operations or call["operation"] in operations]

    def judged(self, name, findings):
        """An image whose head is as full as a head becomes: scanned, with twenty tags, and known under eight policies."""
        self.tell("says", image=name, findings=None)
        with self.start("on-push") as on_push:
            for ten in (range(10), range(10, 20)):
                on_push.give(events.from_queue(*(events.push(name, f"1.4.2-build.{n}-g0123456789ab") for n in ten)))
        self.scanned(name, findings)
        with self.start("on-deploy") as on_deploy:
            for n in range(8):
                on_deploy.give(events.deployment(name, self.answers, ignoring=known(n), resource=f"Other{n}"))
        # The next scan is judged under the policies of what is deployed.
        self.scanned(name, findings)
        heads = [row for row in self.tell("rows", table="ecr-scan-verifier-main-verdicts") if row["digest"].get("S") == digest(name) and "version" in row]
        assert len(heads) == 1 and len(heads[0]["verdicts"]["L"]) == 8, f"the head is not as wanted: {heads}"
        self.calls()
        return len(json.dumps(heads[0]))

    def scanned(self, name, findings):
        self.tell("says", image=name, findings=findings)
        with self.start("on-scan") as on_scan:
            on_scan.give(events.from_queue(events.enhanced_scan_ended(name, findings)))

    # What is measured.

    def on_deploy(self):
        for name in ("small", "large"):
            size = self.judged(name, 1000 if name == "small" else 20_000)
        self.notes.append(f"on-deploy reads a head of {size:,} bytes of JSON, known under 8 policies.")
        starts = collections.defaultdict(list)
        for number in range(self.options.rounds):
            for name, image in (("on-deploy", "small"), ("floor", "small"), ("than", "small"), ("on-deploy", "large")):
                if getattr(self.options, name, True):
                    starts[name, image].append(self.known_verdict(name, image, f"{name}{image}{number}"))
        new = [self.new_policy(f"CVE-1998-{number}") for number in range(max(3, self.options.rounds // 3))]
        ours, large, floor = starts["on-deploy", "small"], starts["on-deploy", "large"], starts["floor", "small"]
        of = lambda key, some=ours: [one[key] for one in some]
        others = [("floor", floor), ("the others", starts["than", "small"])]
        beside = lambda key: ", ".join(f"{name} {Row('', of(key, some), '').result()}" for name, some in others if some)
        add = lambda what, key, *goal, **more: self.rows.append(Row(f"on-deploy, 128 MB: {what}", of(key), *goal, **{"beside": beside(key), **more}))
        add("init", "init_ms", "ms", 12)
        add("init, CPU", "init_cpu_ms", "ms", 7)
        add("read to decision: read answered, until the record arrives", "decision_ms", "ms", 6.5)
        add("first answer: event, until the ResponseURL has it", "first_ms", "ms", 20, 17)
        add("the same, until the ResponseURL has confirmed it", "confirmed_ms", "ms")
        add("first event in all, mark included", "whole_ms", "ms")
        add("first event, CPU", "whole_cpu_ms", "ms")
        add("warm: event, until the ResponseURL has confirmed it", "warm_ms", "ms", 19)
        add("warm in all, mark included", "warm_whole_ms", "ms")
        add("warm, CPU", "warm_cpu_ms", "ms", 1.2)
        add("peak memory", "peak_mib", "MiB", 10)
        self.rows.append(Row("on-deploy, 128 MB: first answer, of 20,000 findings instead of 1,000", of("first_ms", large), "ms", 20, 17))
        self.rows.append(Row("on-deploy, 128 MB: warm, of 20,000 findings", of("warm_ms", large), "ms", 19))
        what = "on-deploy, 128 MB: first answer under a new policy, which reads 1,000 findings"
        self.rows.append(Row(what, [first for first, _ in new], "ms", beside=new[-1][1]))
        self.rows.append(Row("calls for a known verdict by digest", of("calls"), "", 4, beside=ours[-1]["named"]))

    def known_verdict(self, name, image, resource):
        self.calls()
        with self.start("on-deploy" if name == "than" else name, 128, name == "than") as function:
            opened = self.calls()
            assert [call["operation"] for call in opened] == ["GetItem"], f"init makes other calls than one read: {opened}"
            first = function.give(events.deployment(image, self.answers, ignoring=known(0), resource=resource))
            calls = self.calls()
            at = {call["operation"]: call for call in calls}
            found = {
                "init_ms": function.init_ms, "init_cpu_ms": function.init_cpu_ms, "whole_ms": first.ms, "whole_cpu_ms": first.cpu_ms, "calls": len(calls),
                "named": ", ".join(call["operation"] for call in calls),
                "decision_ms": (at["TransactWriteItems"]["came"] - at["GetItem"]["left"]) / 1e6,
                "first_ms": (at["PutAnswer"]["came"] - first.sent) / 1e6, "confirmed_ms": (at["PutAnswer"]["left"] - first.sent) / 1e6,
            }
            warm = []
            for number in range(WARM):
                done = function.give(events.deployment(image, self.answers, ignoring=known(0), resource=f"{resource}w{number}"))
                put, = self.calls("PutAnswer")
                warm.append((done.ms, (put["left"] - done.sent) / 1e6, done.cpu_ms))
            median = lambda place: sorted(one[place] for one in warm)[len(warm) // 2]
            return {**found, "warm_whole_ms": median(0), "warm_ms": median(1), "warm_cpu_ms": median(2), "peak_mib": function.peak_mib()}

    def new_policy(self, ignoring):
        self.calls()
        with self.start("on-deploy", 128) as function:
            self.calls()
            done = function.give(events.deployment("small", self.answers, ignoring=[ignoring], resource=ignoring))
            calls = self.calls()
            put = next(call for call in calls if call["operation"] == "PutAnswer")
            return (put["came"] - done.sent) / 1e6, ", ".join(call["operation"] for call in calls)

    def on_scan(self):
        findings, starts = 20_000, []
        for number in range(max(3, self.options.rounds // 3)):
            name = f"scanned-{number}"
            self.tell("says", image=name, findings=findings)
            self.calls()
            with self.start("on-scan", 128) as function:
                done = function.give(events.from_queue(events.enhanced_scan_ended(name, findings)))
                assert json.loads(done.body)["batchItemFailures"] == [], done.body
                calls = [call["operation"] for call in self.calls()]
                assert "PutItem" in calls, f"nothing was stored: {calls}"
                starts.append({"cpu_ms": done.cpu_ms, "peak": function.peak_mib(), "s": done.ms / 1000, "init": function.init_ms, "calls": calls})
        of = lambda key: [one[key] for one in starts]
        a_second = [findings / one["cpu_ms"] * 1000 for one in starts]
        named = ", ".join(f"{n} {name}" for name, n in collections.Counter(starts[-1]["calls"]).items())
        self.rows += [
            Row("on-scan, 128 MB: 20,000 findings read, judged and stored, peak memory", of("peak"), "MiB", 60),
            Row("on-scan, 128 MB: findings a second of CPU, reading and storing included", a_second, "", 300_000, at_least=True),
            Row("on-scan, 128 MB: time for all of it", of("s"), "s", beside=named),
            Row("on-scan, 128 MB: init", of("init"), "ms"),
        ]

    def release(self):
        findings = 158
        for memory_mb, goal in ((128, 120), (512, 60)):
            released, with_init, than = [], [], []
            for number in range(self.options.rounds * (2 if self.options.than else 1)):
                name, is_other = f"waited-for-{memory_mb}-{number}", self.options.than and number % 2
                request = self.park(name)
                self.tell("says", image=name, findings=findings)
                self.calls()
                with self.start("on-scan", memory_mb, is_other) as function:
                    done = function.give(events.from_queue(events.enhanced_scan_ended(name, findings)))
                    put = [call for call in self.calls("PutAnswer") if request["RequestId"] in call["target"]]
                    assert len(put) == 1, f"no answer: {done.body}"
                    took = (put[0]["came"] - done.sent) / 1e6
                    if is_other:
                        than.append(took)
                    else:
                        released.append(took)
                        with_init.append(took + function.init_ms)
            what = f"release of a parked request, {memory_mb} MB: event handed over, until the ResponseURL has the answer"
            self.rows.append(Row(what, released, "ms", goal, beside=f"the others {Row('', than, '').result()}" if than else ""))
            self.rows.append(Row(f"the same, with the start of on-scan, {memory_mb} MB", with_init, "ms", goal))
        request = self.park("still-waited-for")
        with self.start("on-scan") as function:
            self.calls()
            function.give(events.from_queue(events.timer(request["RequestId"])))
            calls = [call["operation"] for call in self.calls()]
            self.rows.append(Row("calls of a timer while a request waits; there are no others", [len(calls)], "", beside=", ".join(calls)))

    def park(self, name):
        """A deployment whose image has not been scanned yet."""
        self.tell("says", image=name, findings=None)
        with self.start("on-deploy") as on_deploy:
            request = events.deployment(name, self.answers, resource=name)
            on_deploy.give(request)
        assert not self.calls("PutAnswer"), "it was answered, and should wait"
        return request

    def zips(self):
        for name in FUNCTIONS:
            packed = io.BytesIO()
            with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as file:
                file.write(BINARIES / self.options.arch / name / "bootstrap", "bootstrap")
            goal = {"goal": 3.5, "stretch": 2.5} if name == "on-deploy" else {"goal": 4}
            size = (BINARIES / self.options.arch / name / "bootstrap").stat().st_size
            self.rows.append(Row(f"{name}, zip", [len(packed.getvalue()) / 1e6], "MB", **goal, beside=f"{size / 1e6:.2f} MB unpacked"))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--arch", default=os.uname().machine.replace("aarch64", "arm64"))
    parser.add_argument("--only", choices=["on-deploy", "on-scan", "release", "zips"])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--latency-ms", type=float, default=5)
    parser.add_argument("--floor", type=Path)
    parser.add_argument("--than", type=Path, help="a folder of other binaries, measured in the same rounds")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--ready", action="store_true", help="only look whether what is measured is there")
    options = parser.parse_args()
    lacking = [name for name in FUNCTIONS if not (BINARIES / options.arch / name / "bootstrap").is_file()]
    if lacking:
        sys.exit(f"There is no {', '.join(lacking)} in infra/binaries/{options.arch}: make dist ARCH={options.arch}")
    if options.ready:
        return
    if options.floor and not options.floor.is_file():
        sys.exit(f"There is no {options.floor}.")
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(options, folder)
        with contextlib.ExitStack() as ends:
            ends.callback(bench.end)
            bench.notes.append(f"Every call is answered after {options.latency_ms:g} ms. A client reads {bench.certificates.others} besides the run's own. "
                               f"{options.rounds} starts; medians count.")
            if not cgroup.version():
                bench.notes.append("WITHOUT LIMITS: no cgroups here, or not root. Memory and CPU are this machine's, whatever a row says.")
            for part in ("zips", "on-deploy", "on-scan", "release"):
                if options.only in (None, part):
                    print(f"{part} ...", file=sys.stderr, flush=True)
                    getattr(bench, part.replace("-", "_"))()
    show_all(bench.rows, bench.notes)
    if options.json:
        options.json.write_text(json.dumps([{"what": row.what, "unit": row.unit, "goal": row.goal, "values": row.values} for row in bench.rows], indent=1))


if __name__ == "__main__":
    main()
