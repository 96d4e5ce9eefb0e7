#!/usr/bin/env python3
"""Refuses a dependency tree with a second TLS or HTTP stack, a C library for TLS, or a licence that does not go with Apache-2.0.

A feature that some crate switches on can bring one in without a line of ours changing; each costs megabytes and, in the case of
aws-lc, 440 ms of a small function's first call.
"""
import json
import subprocess
import sys

ONCE = ("rustls", "hyper", "h2", "http", "ring", "tokio", "tokio-rustls", "hyper-rustls", "webpki-roots", "rustls-webpki", "serde_json")
NEVER = ("aws-lc-rs", "aws-lc-sys", "openssl-sys", "native-tls", "reqwest", "aws-sdk-ssm")
LICENCES = {"Apache-2.0", "MIT", "BSD-2-Clause", "BSD-3-Clause", "ISC", "Unicode-3.0", "Unicode-DFS-2016", "Zlib", "0BSD", "CC0-1.0", "Unlicense", "BSL-1.0", "CDLA-Permissive-2.0"}

metadata = json.loads(subprocess.run(
    ["cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", "x86_64-unknown-linux-gnu"], capture_output=True, text=True, check=True).stdout)
tree = subprocess.run(["cargo", "tree", "--locked", "-e", "normal", "--prefix", "none", "-f", "{p}"], capture_output=True, text=True, check=True).stdout
shipped = {tuple(line.split()[:2]) for line in tree.splitlines() if line.strip()}
licences = {(package["name"], "v" + package["version"]): package["license"] or "" for package in metadata["packages"]}

wrong = []
for name in ONCE:
    versions = sorted(version for found, version in shipped if found == name)
    if len(versions) > 1:
        wrong.append(f"{name} is there in {len(versions)} versions: {', '.join(versions)} (cargo tree -i {name}@...)")
wrong += [f"{name} came in (cargo tree -i {name})" for name in NEVER if any(found == name for found, _ in shipped)]


def goes(expression):
    """Whether one of the alternatives of an SPDX expression consists of licences that we know."""
    alternatives = expression.replace("/", " OR ").replace("(", "").replace(")", "").split(" OR ")
    return any(all(part.strip().removesuffix(" WITH LLVM-exception") in LICENCES for part in one.split(" AND ")) for one in alternatives)


for package in sorted(shipped):
    if package in licences and not goes(licences[package]):
        wrong.append(f"{package[0]} {package[1]} is under `{licences[package]}`")
print("\n".join(wrong) if wrong else f"said: {len(shipped)} crates")
sys.exit(bool(wrong))
