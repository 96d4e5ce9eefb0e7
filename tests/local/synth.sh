#!/bin/bash
# Synthesizes the example app's two stacks, the pipeline and a gate.
#
#   synth.sh         for the stories. They put in the binaries that were built last by themselves, so placeholders will do, and the
#                    templates stay as they are when only the Rust side changes
#   synth.sh demo    for the demo, with the real binaries (stripped: symbols are most of a dev binary), for the CDK CLI to deploy
set -eu
cd "$(dirname "$0")/../.."
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
app=$target/${1:-stories}
for function in on-push on-scan on-deploy on-sweep; do
    bootstrap=$app/binaries/x86_64/$function/bootstrap
    built=$target/debug/$function
    mkdir -p "$(dirname "$bootstrap")"
    if [ "$app" != "$target/demo" ]; then
        [ -e "$bootstrap" ] || printf '%s\n' "stands for $function" >"$bootstrap"
    elif [ ! -e "$bootstrap" ] || [ "$built" -nt "$bootstrap" ]; then
        strip -o "$bootstrap" "$built" 2>/dev/null || cp "$built" "$bootstrap"
        chmod 755 "$bootstrap"
    fi
done
# Nothing new: what is there will do.
made=$app/cdk.out/manifest.json
sources=(infra/src infra/example infra/package-lock.json tests/local/synth.sh "$app/binaries")
if [ -e "$made" ] && [ -e "$target/synth/ecr-scan-verifier-gate.template.json" ] && [ -z "$(find "${sources[@]}" -newer "$made" -print -quit)" ]; then
    touch "$target/synth/"*.template.json
    exit 0
fi
rm -rf "$app/cdk.out"
CDK_OUTDIR=$app/cdk.out CDK_CONTEXT_JSON="{\"ecr-scan-verifier:binaries\":\"$app/binaries\"}" npm --prefix infra run --silent synth
mkdir -p "$target/synth"
for template in "$app"/cdk.out/*.template.json; do
    cp "$template" "$target/synth/.new-$$"
    mv "$target/synth/.new-$$" "$target/synth/$(basename "$template")"
done
