#!/bin/bash
# Looks at what comes from others: crates (bans, licences, sources, known flaws) and what the npm package brings along. Flaws are looked
# up in databases on the network; where it does not lead there, that part is left out, and said so.
cd "$(dirname "$0")/../.." || exit 1
# Nobody is there to be asked for a password.
export GIT_TERMINAL_PROMPT=0
failed=0
left_out=()
if ! found=$(command -v cargo-deny); then
    echo "cargo-deny is not there. To get it:  cargo install cargo-deny --locked"
    exit 1
fi
deny() { "$found" --config tests/local/deny.toml --locked "$@"; }

deny check bans licenses sources || failed=1

if fetched=$(deny fetch db 2>&1); then
    deny check advisories || failed=1
else
    printf '%s\n' "$fetched"
    left_out+=("known flaws of crates (the database could not be fetched)")
fi

report=$(npm --prefix infra audit --omit=dev --json 2>/dev/null)
result=$?
if node -e 'process.exit("auditReportVersion" in JSON.parse(process.argv[1]) ? 0 : 1)' "$report" 2>/dev/null; then
    [ "$result" = 0 ] || { npm --prefix infra audit --omit=dev; failed=1; }
else
    printf '%s\n' "$report"
    left_out+=("known flaws of npm packages (the registry does not answer)")
fi

if [ "$failed" = 0 ]; then
    if [ ${#left_out[@]} = 0 ]; then echo "said: nothing to complain of"; else (IFS=';'; echo "said: left out: ${left_out[*]}"); fi
fi
exit "$failed"
