#!/bin/bash
# Packs the npm package, with the functions of every architecture that was built: package.sh TARGET
set -euo pipefail
cd "$(dirname "$0")/../.."
packed=$(realpath -m "$1")/package
functions=0
for arch in x86_64 arm64; do
    [ -d "infra/binaries/$arch" ] || continue
    tests/local/check_binaries.py "$arch" "infra/binaries/$arch"/*/bootstrap >/dev/null
    functions=$((functions + 1))
done
if [ "$functions" = 0 ]; then
    echo "infra/binaries/ is empty: make dist (and make dist ARCH=arm64) first." >&2
    exit 1
fi
mkdir -p "$packed"
rm -f "$packed"/*.tgz
npm --prefix infra pack ./infra --pack-destination "$packed" --loglevel=error >/dev/null
file=$(ls "$packed"/*.tgz)
echo "said: $(basename "$file"), $(du -m "$file" | cut -f1) MB, for $(ls infra/binaries | tr '\n' ' ')"
