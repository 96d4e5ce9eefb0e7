#!/bin/sh
# Says at once, before anything is downloaded, what is missing on this machine for `make demo` and `make test`, and how to get it.
# With --quiet it says nothing when all is well.
cd "$(dirname "$0")/../.." || exit 1
missing=0

good() { [ "$quiet" ] || printf '  ok       %-8s %s\n' "$1" "$2"; }
bad() { missing=$((missing + 1)); printf '  MISSING  %-8s %s\n           to fix:  %s\n' "$1" "$2" "$3"; }
# at_least WANTED FOUND: version numbers, compared part by part
at_least() { [ "$(printf '%s\n%s\n' "$1" "$2" | sort -t. -k1,1n -k2,2n -k3,3n | head -n 1)" = "$1" ]; }
version_of() { "$@" 2>/dev/null | grep -oE '[0-9]+(\.[0-9]+)+' | head -n 1; }

[ "$1" = --quiet ] && quiet=1 || quiet=

wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
found=$(version_of cargo --version)
if [ -z "$found" ]; then bad cargo "not found" "install Rust $wanted or newer: https://rustup.rs"
elif ! at_least "$wanted" "$found"; then bad cargo "$found, but $wanted is the oldest that the AWS SDK takes" "rustup update stable"
else good cargo "$found"; fi

if cargo fmt --version >/dev/null 2>&1 && cargo clippy --version >/dev/null 2>&1; then good rustfmt "with clippy"
else bad rustfmt "rustfmt or clippy is not there (only \`make test\` needs them)" "rustup component add rustfmt clippy"; fi

if command -v cc >/dev/null 2>&1; then good cc "$(command -v cc)"
else bad cc "no C compiler and linker" "apt-get install build-essential (Debian, Ubuntu), dnf install gcc (Fedora)"; fi

found=$(version_of python3 --version)
if [ -z "$found" ]; then bad python3 "not found" "apt-get install python3 python3-venv"
elif ! at_least 3.10 "$found"; then bad python3 "$found, but the local AWS wants 3.10" "install a newer Python 3 and put it first in PATH"
elif ! python3 -c 'import venv, ensurepip' 2>/dev/null; then bad python3 "$found, without venv and ensurepip" "apt-get install python3-venv"
else good python3 "$found, with venv"; fi

found=$(version_of node --version)
if [ -z "$found" ]; then bad node "not found" "install Node 20 or newer: https://nodejs.org"
elif ! at_least 20.0 "$found"; then bad node "$found, but the CDK package wants 20" "install Node 20 or newer: https://nodejs.org"
else good node "$found"; fi

if command -v npm >/dev/null 2>&1; then good npm "$(version_of npm --version)"
else bad npm "not found" "it comes with Node; on Debian: apt-get install npm"; fi

case "$(uname -s) $(uname -m)" in
    "Linux x86_64") good machine "Linux x86_64" ;;
    *) bad machine "$(uname -s) $(uname -m): the functions run as Linux x86_64 programs" "use Linux on x86_64, or a virtual machine with it" ;;
esac

[ "$missing" = 0 ] && exit 0
printf '\n%s missing. Nothing was downloaded or changed.\n' "$missing"
exit 1
