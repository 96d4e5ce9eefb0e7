#!/bin/bash
# make demo: sets up what is not there yet, then tells the story (demo.rs). Nothing outlives it, on Ctrl-C neither.
set -u
cd "$(dirname "$0")/../.."
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
mkdir -p "$target/logs"
step=tests/local/step.sh

echo "ecr-scan-verifier, shown on a local AWS: everything runs on 127.0.0.1 of this"
echo "machine, no AWS account is used. One deployment will be let through, one not."
echo
todo=()
compgen -G "$target/python/requirements-*/whole" >/dev/null || todo+=("a Python environment for the local AWS, 90 MB (about 15 s)")
[ -e infra/node_modules/.package-lock.json ] || todo+=("the CDK and its CLI from npm, below infra/, 230 MB (about 20 s)")
[ -e "$target/debug/examples/demo" ] || todo+=("the Rust side, with the AWS SDK's crates, 2 GB (about 4 min on 2 cores)")
if [ ${#todo[@]} -gt 0 ]; then
    echo "First, and only once, below target/ and infra/:"
    printf '  - %s\n' "${todo[@]}"
else
    echo "All is set up; what has changed is built again. The story takes half a minute."
fi
echo

make --silent --no-print-directory infra || exit 1
$step python tests/local/pinned_python.py tests/local/requirements.txt "$target/python" || exit 1
$step build cargo build --bins --examples --features faults --locked || exit 1
$step synth tests/local/synth.sh demo || exit 1
echo

# In a process group of its own, so that whatever it started can be ended with it.
set -m
: >"$target/logs/demo-cdk.log"
"$target/debug/examples/demo" &
story=$!
end() {
    trap '' INT TERM HUP
    exec 2>/dev/null # the shell's own remark on a job that was ended
    kill -s TERM -- -"$story"
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        kill -s 0 -- -"$story" || break
        sleep 0.2
    done
    kill -s KILL -- -"$story"
    wait "$story"
    echo
    echo "Ended. Nothing is left running."
    exit 130
}
trap end INT TERM HUP
wait "$story"
exit $?
