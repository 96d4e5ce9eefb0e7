#!/bin/bash
# Uses the packed package as somebody new would: an empty folder, npm install, the README's example, types checked, synthesized, and
# its stacks deployed on the local AWS with the functions that are in the package. try_package.sh TARGET
set -euo pipefail
cd "$(dirname "$0")/../.."
target=$(realpath -m "$1")
file=$(ls "$target"/package/*.tgz 2>/dev/null || true)
[ -n "$file" ] || { echo "There is no package in $target/package: make package first." >&2; exit 1; }
app=$target/package/app
rm -rf "$app"
mkdir -p "$app"
version() { node -p "const p = require('./infra/package.json'); p.devDependencies['$1']"; }
wanted=("aws-cdk-lib@$(version aws-cdk-lib)" "constructs@$(version constructs)" "typescript@$(version typescript)" "@types/node@$(version @types/node)")
(
    cd "$app"
    npm init -y >/dev/null
    npm install --no-audit --no-fund --loglevel=error "$file" "${wanted[@]}"
)
# The first block of TypeScript in README.md.
sed -n '/^```ts$/,/^```$/p' README.md | sed '1d;/^```$/,$d' >"$app/app.ts"
cd "$app"
npx tsc --strict --target es2022 --module nodenext --skipLibCheck app.ts
CDK_OUTDIR=$app/cdk.out node app.js
cd - >/dev/null
TRIED_APP=$app/cdk.out cargo test --features faults --locked --test stories -- --ignored package::
