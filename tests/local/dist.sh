#!/bin/bash
# Builds the functions as they ship for one machine, x86_64 or arm64: dist.sh ARCH TARGET FUNCTION...
#
# For the other machine than this one it takes a compiler that has that machine's standard library (rustup's, or Debian's own), and
# a linker for it.
set -euo pipefail
cd "$(dirname "$0")/../.."
arch=$1 target=$2
shift 2
case $arch in
    x86_64) triple=x86_64-unknown-linux-gnu gnu=x86_64-linux-gnu ;;
    arm64) triple=aarch64-unknown-linux-gnu gnu=aarch64-linux-gnu ;;
    *) echo "ARCH is '$arch': expected x86_64 or arm64." >&2; exit 1 ;;
esac
made=$target
options=()
if [ "$(uname -m)" != "${triple%%-*}" ]; then
    if ! command -v "$gnu-gcc" >/dev/null; then
        echo "No linker for $arch: $gnu-gcc is not there." >&2
        echo "On Debian: dpkg --add-architecture $( [ "$arch" = arm64 ] && echo arm64 || echo amd64 ) && apt-get update && apt-get install gcc-$gnu libc6-dev-$( [ "$arch" = arm64 ] && echo arm64 || echo amd64 )-cross" >&2
        exit 1
    fi
    for compiler in "$(rustup which rustc 2>/dev/null || command -v rustc)" /usr/bin/rustc; do
        if [ -x "$compiler" ] && ls "$("$compiler" --print target-libdir --target $triple 2>/dev/null)"/libstd-* >/dev/null 2>&1; then
            export RUSTC=$compiler
            break
        fi
    done
    if [ -z "${RUSTC:-}" ]; then
        echo "No Rust for $arch: rustup target add $triple, or on Debian: apt-get install rustc-web libstd-rust-web-dev:$arch" >&2
        exit 1
    fi
    # One folder for two compilers would build everything again and again.
    export CARGO_TARGET_DIR=$target/cross
    variable=${triple//-/_}
    export "CC_$variable=$gnu-gcc" "CARGO_TARGET_${variable^^}_LINKER=$gnu-gcc"
    options=(--target "$triple")
    made=$target/cross/$triple
fi
built=()
for function in "$@"; do
    # Why they differ: Cargo.toml.
    case $function in
        # Nothing unwinds there, so nobody reads the tables that say how.
        on-deploy | on-sweep) profile=dist-alone linked=(-- -C "link-arg=-Wl,-T,$PWD/tests/local/no_unwinding.ld") ;;
        *) profile=dist linked=() ;;
    esac
    cargo rustc --profile "$profile" --locked "${options[@]}" --bin "$function" "${linked[@]}"
    built+=("$made/$profile/$function")
done
tests/local/check_binaries.py "$arch" "${built[@]}"
for file in "${built[@]}"; do
    if grep -qE "FAULT_FOLDER|FAULT_PANIC_AT" "$file"; then
        echo "A fault point is in what ships: $file." >&2
        exit 1
    fi
    install -D -m 755 "$file" "infra/binaries/$arch/${file##*/}/bootstrap"
done
