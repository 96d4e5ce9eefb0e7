"""A Lambda function's size: a memory limit, and the share of a core that goes with it, by cgroups (version 1 or 2). Needs root."""
import os
import re
import time
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
# Lambda gives a whole core at 1,769 MB, and less in proportion.
MB_A_CORE = 1769
# In which steps it is given out is not documented; this is a guess.
PERIOD_US = 20_000


def version():
    """1, 2, or None where groups cannot be made."""
    if os.geteuid() != 0:
        return None
    if os.access(ROOT / "cpu", os.W_OK) and os.access(ROOT / "memory", os.W_OK):
        return 1
    controllers = ROOT / "cgroup.controllers"
    if controllers.is_file() and {"cpu", "memory"} <= set(controllers.read_text().split()) and os.access(ROOT / "cgroup.subtree_control", os.W_OK):
        return 2
    return None


class Group:
    """`memory_mb` holds from the start, None: no limit. The share of a core holds only from `throttle` on, since Lambda does not throttle the
    start."""

    def __init__(self, memory_mb=None):
        self.memory_mb, self.version = memory_mb, version()
        name = f"ecr-scan-verifier-bench-{os.getpid()}-{time.monotonic_ns()}"
        if self.version == 1:
            self.folders = {controller: ROOT / controller / name for controller in ("cpu", "memory")}
        elif self.version == 2:
            (ROOT / "cgroup.subtree_control").write_text("+cpu +memory")
            self.folders = {controller: ROOT / name for controller in ("cpu", "memory")}
        else:
            raise OSError("no cgroups here, or not root")
        for folder in set(self.folders.values()):
            folder.mkdir()
        if memory_mb:
            self.write("memory", "memory.limit_in_bytes" if self.version == 1 else "memory.max", memory_mb << 20)
        if self.version == 1:
            self.write("cpu", "cpu.cfs_period_us", PERIOD_US)
        self.first_in_line()

    def first_in_line(self):
        """On a machine that others use too, it is not kept waiting by them; its own share stays what it is."""
        self.write("cpu", *(("cpu.shares", 100_000) if self.version == 1 else ("cpu.weight", 10_000)))

    def write(self, controller, name, value):
        (self.folders[controller] / name).write_text(str(value))

    def take_in(self, pid):
        for folder in set(self.folders.values()):
            (folder / "cgroup.procs").write_text(str(pid))

    def throttle(self):
        quota = max(1000, round(PERIOD_US * self.memory_mb / MB_A_CORE))
        if self.version == 1:
            self.write("cpu", "cpu.cfs_quota_us", quota)
        else:
            self.write("cpu", "cpu.max", f"{quota} {PERIOD_US}")

    def throttled_ms(self):
        """How long it has been kept waiting for its share."""
        said = (self.folders["cpu"] / "cpu.stat").read_text()
        found = re.search(r"throttled_time (\d+)", said)
        return int(found[1]) / 1e6 if found else int(re.search(r"throttled_usec (\d+)", said)[1]) / 1e3

    def remove(self):
        for folder in set(self.folders.values()):
            for _ in range(100):
                try:
                    folder.rmdir()
                    break
                except OSError:
                    time.sleep(0.02)  # its process is not quite gone
