#!/bin/bash
# mutants.sh TARGET FILE...: breaks each line of these files of src/domain in every way that cargo-mutants knows, and says which breaks no
# test of the pure part has seen. First the quick tests alone; what these let pass, all but the model once more. It works on a copy of
# what is committed, and installs nothing.
set -euo pipefail
cd "$(dirname "$0")/../.."
made=$1/mutants
shift
[ $# -gt 0 ] || { echo "Which files? make mutants FILES='judge.rs protocol/wake.rs', of src/domain; all of them take hours." >&2; exit 1; }
cargo mutants --version >/dev/null 2>&1 || { echo "cargo-mutants is not there: cargo install cargo-mutants --locked" >&2; exit 1; }
for file in "$@"; do
    [ -f "src/domain/$file" ] || { echo "There is no src/domain/$file." >&2; exit 1; }
done
[ -z "$(git status --porcelain src tests)" ] || echo "What is not committed is left out."
mkdir -p "$made"
made=$(cd "$made" && pwd)
rm -rf "$made/copy"
git clone -q . "$made/copy"
cd "$made/copy"
export CARGO_TARGET_DIR=$made/target CARGO_PROFILE_DEV_DEBUG=none CARGO_PROFILE_TEST_DEBUG=none INSTA_UPDATE=no PROPTEST_CASES=64
export CARGO_INCREMENTAL=1

break_it() { # FILE STAGE ARGUMENT...
    local file=$1 out=$made/$2/${1//\//_}
    shift 2
    mkdir -p "$out"
    # Its own exit code says no more than its lists.
    cargo mutants --in-place --baseline skip --timeout 60 --no-shuffle --output "$out" --file "src/domain/$file" --cargo-arg=--no-default-features "$@" \
        >"$out/log" 2>&1 || true
    [ -f "$out/mutants.out/missed.txt" ] || { tail -n 20 "$out/log"; exit 1; }
    missed=$out/mutants.out/missed.txt
}

for file in "$@"; do
    break_it "$file" quick --cargo-test-arg=--test --cargo-test-arg=rules -- -- --skip large_input
    all=$(wc -l <"$made/quick/${file//\//_}/mutants.out/caught.txt")
    only=()
    while read -r mutant; do
        only+=(--re "^$(sed 's/[][(){}.*+?^$|\\]/\\&/g' <<<"$mutant")\$")
    done <"$missed"
    all=$((all + $(wc -l <"$made/quick/${file//\//_}/mutants.out/timeout.txt") + ${#only[@]} / 2))
    if [ ${#only[@]} -gt 0 ]; then
        break_it "$file" whole "${only[@]}" --cargo-test-arg=--lib --cargo-test-arg=--test --cargo-test-arg=rules --cargo-test-arg=--test --cargo-test-arg=signatures
    fi
    printf '%-28s %5d breaks, %3d that no test sees\n' "$file" "$all" "$(wc -l <"$missed")"
    sed 's/^/    /' "$missed"
done
