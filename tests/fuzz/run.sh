#!/bin/bash
# run.sh SECONDS [TARGET]: lets libFuzzer make bytes up, for each target so long, or for this one. It installs nothing. One line a target:
# how often it ran, how much code it reached that the seeds and earlier runs had not, and whether a promise broke. All that it makes lies
# below target/fuzz (or CARGO_TARGET_DIR): what it has learned (corpus), what broke a promise (broken), its logs.
cd "$(dirname "$0")/../.." || exit 1
for_s=$1
only=$2
made=${CARGO_TARGET_DIR:-target}/fuzz
mkdir -p "$made" && made=$(cd "$made" && pwd)
missing=0

need() { missing=1; printf '  MISSING  %s\n           to fix:  %s\n' "$1" "$2"; }
rustup run nightly rustc --version >/dev/null 2>&1 || need "a nightly toolchain, which alone can instrument code" "rustup toolchain install nightly"
cargo fuzz --version >/dev/null 2>&1 || need "cargo-fuzz" "cargo install cargo-fuzz"
[ "$missing" = 0 ] || { printf '\nNothing was started.\n'; exit 1; }
[[ "$for_s" =~ ^[1-9][0-9]*$ ]] || { echo "SECONDS is \`$for_s\`, expected a whole number from 1."; exit 1; }
[ -z "$only" ] || [ -d "tests/fuzz/seeds/$only" ] || { echo "There is no target \`$only\`. There are:" $(ls tests/fuzz/seeds); exit 1; }

# Not `cargo fuzz run`, which would make folders beside the seeds.
triple=$(rustup run nightly rustc -vV | sed -n 's/^host: //p')
if ! rustup run nightly cargo fuzz build --fuzz-dir tests/fuzz --target "$triple" --target-dir "$made/build" >"$made/build.log" 2>&1; then
    tail -n 40 "$made/build.log" | sed 's/^/    /'
    printf '\nThe targets could not be built. The whole log: %s\n' "$made/build.log"
    exit 1
fi

failed=0
for target in ${only:-$(ls tests/fuzz/seeds)}; do
    corpus=$made/corpus/$target broken=$made/broken/$target log=$made/$target.log
    mkdir -p "$corpus" "$broken"
    printf '  %-20s' "$target"
    # 64 KB: what only longer input does is asked in tests/rules/fuzzed.rs. Ten seconds for one input is a hang, a gigabyte a leak.
    "$made/build/$triple/release/$target" "$corpus" "tests/fuzz/seeds/$target" events -max_total_time="$for_s" -timeout=10 -rss_limit_mb=1024 \
        -max_len=65536 -dict=tests/fuzz/words.dict -artifact_prefix="$broken/" -print_final_stats=1 >"$log" 2>&1
    result=$?
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    reached() { grep -aoE "$1.* cov: [0-9]+" "$log" | tail -n 1 | grep -oE '[0-9]+$'; }
    began=$(reached INITED) ended=$(reached '^#[0-9]+')
    if [ "$result" = 0 ]; then said=ok; else said="BROKEN" failed=1; fi
    printf '%10s runs  %5s new of %5s  %s\n' "${runs:-?}" "$((${ended:-0} - ${began:-0}))" "${ended:-?}" "$said"
    if [ "$result" != 0 ]; then
        grep -aE "panicked at|^==[0-9]+== ?ERROR|ALARM|Test unit written" -A 1 "$log" | head -n 12 | sed 's/^/    /'
        echo "    The whole log: $log. To keep it: docs/fuzzing.md."
    fi
done
exit "$failed"
