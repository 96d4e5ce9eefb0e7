#!/bin/bash
# step.sh NAME COMMAND...: runs one step of `make`. One line with its time; everything it says goes to a log, whose end is shown when it
# fails. VERBOSE=1 shows everything as it comes.
name=$1
shift
folder=${CARGO_TARGET_DIR:-target}/logs
log=$folder/$name.log
mkdir -p "$folder"
started=$(date +%s)
if [ -n "$VERBOSE" ]; then
    printf '%s\n' "-- $name"
    "$@" 2>&1 | tee "$log"
    result=${PIPESTATUS[0]}
else
    printf '  %-16s' "$name"
    # The end of the log has to show what failed, not where in the runtime.
    export RUST_BACKTRACE=0
    "$@" >"$log" 2>&1
    result=$?
fi
took=$(($(date +%s) - started))
if [ "$result" = 0 ]; then
    # A step may say more about itself in its last line.
    said=$(sed -n 's/^said: //p' "$log" | tail -n 1)
    printf 'ok  %4d s  %s\n' "$took" "${said:-$(grep -E '^test result: ok' "$log" | awk '{passed += $4} END {if (NR) print passed " tests"}')}"
else
    printf 'FAILED after %d s\n\n' "$took"
    tail -n 60 "$log" | sed 's/^/    /'
    printf '\nThe whole log: %s\n' "$log"
fi
exit "$result"
