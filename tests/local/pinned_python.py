#!/usr/bin/env python3
"""pinned_python.py REQUIREMENTS FOLDER: prints the path of a Python that has what REQUIREMENTS pins, making it below FOLDER if it is not there.

Its name is the hash of the requirements. Two that want it at the same time do not meet: one makes it, the other waits; and what was
left half made is made again.
"""
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys

requirements, folder = sys.argv[1], os.path.abspath(sys.argv[2])
with open(requirements, "rb") as file:
    pinned = hashlib.sha256(file.read() + sys.version.encode()).hexdigest()[:16]
name = os.path.splitext(os.path.basename(requirements))[0]
home = os.path.join(folder, f"{name}-{pinned}")
python, whole = os.path.join(home, "bin", "python"), os.path.join(home, "whole")
if not os.path.exists(whole):
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, f"{name}.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(whole):
            shutil.rmtree(home, ignore_errors=True)
            subprocess.run([sys.executable, "-m", "venv", home], check=True, stdout=sys.stderr)
            pip = [python, "-m", "pip", "--disable-pip-version-check", "--no-input", "--quiet", "install"]
            subprocess.run([*pip, "--require-hashes", "--only-binary", ":all:", "-r", requirements], check=True, stdout=sys.stderr)
            open(whole, "w").close()
print(python)
