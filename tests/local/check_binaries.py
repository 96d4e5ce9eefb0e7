#!/usr/bin/env python3
"""check_binaries.py MACHINE FILE...: refuses a function that Lambda's Amazon Linux 2023 could not start.

It has glibc 2.34, so a symbol of a newer one would be found missing only there; and a binary of the other machine likewise.
"""
import struct
import sys

NEWEST = (2, 34)
MACHINES = {"x86_64": 62, "arm64": 183}
VERNEED = 0x6FFFFFFE


def versions_needed(data):
    """Every GLIBC_x.y that the dynamic linker would look for: the section .gnu.version_r."""
    offset, = struct.unpack_from("<Q", data, 40)
    size, count = struct.unpack_from("<HH", data, 58)
    sections = [struct.unpack_from("<IIQQQQIIQQ", data, offset + n * size) for n in range(count)]
    for section in (s for s in sections if s[1] == VERNEED):
        names, file_at = sections[section[6]][4], section[4]
        while True:
            _, auxiliaries, _, first, next_file = struct.unpack_from("<HHIII", data, file_at)
            at = file_at + first
            for _ in range(auxiliaries):
                _, _, _, name, next_one = struct.unpack_from("<IHHII", data, at)
                text = data[names + name:data.index(b"\0", names + name)].decode()
                if text.startswith("GLIBC_2."):
                    yield tuple(int(part) for part in text[6:].split("."))
                at += next_one
            if not next_file:
                break
            file_at += next_file


machine, wrong = sys.argv[1], []
newest = (2, 0)
for path in sys.argv[2:]:
    with open(path, "rb") as file:
        data = file.read()
    if data[:6] != b"\x7fELF\x02\x01":
        wrong.append(f"{path} is no 64-bit ELF file")
        continue
    if struct.unpack_from("<H", data, 18)[0] != MACHINES[machine]:
        wrong.append(f"{path} is not for {machine}")
    needed = max(versions_needed(data), default=(2, 0))
    newest = max(newest, needed)
    if needed > NEWEST:
        wrong.append(f"{path} wants glibc {'.'.join(map(str, needed))}; Lambda's Amazon Linux 2023 has {'.'.join(map(str, NEWEST))}")
print("\n".join(wrong) if wrong else f"said: {len(sys.argv) - 2} functions, {machine}, glibc {'.'.join(map(str, newest))} or newer")
sys.exit(bool(wrong))
