#!/bin/sh
# Puts the functions' zips where pipeline.yaml looks for them:
#
#   publish.sh BUCKET PREFIX ARCHITECTURE [FOLDER]
#
# ARCHITECTURE is arm64 or x86_64; FOLDER holds <architecture>/<function>/bootstrap, as `binaries` of the npm package does, which is
# where it looks when none is named. CloudFormation does not look into a zip: take a PREFIX that is new for each version.
set -eu
bucket=${1:?a bucket of the region in which the pipeline is to be} prefix=${2:?a prefix that is new for this version} arch=${3:?arm64 or x86_64}
here=$(cd "$(dirname "$0")" && pwd)
folder=${4:-$here/../binaries}
case $prefix in */) ;; *) prefix=$prefix/ ;; esac
made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
for function in on-push on-scan on-deploy on-sweep; do
    bootstrap=$folder/$arch/$function/bootstrap
    [ -x "$bootstrap" ] || { echo "$bootstrap is not there, or cannot be run: build the functions for $arch first." >&2; exit 1; }
    # One file, executable, at the top of the zip.
    python3 - "$bootstrap" "$made/$function.zip" <<'PYTHON'
import sys, zipfile
info = zipfile.ZipInfo("bootstrap", (1980, 1, 1, 0, 0, 0))
info.external_attr, info.compress_type = 0o100755 << 16, zipfile.ZIP_DEFLATED
with open(sys.argv[1], "rb") as bootstrap, zipfile.ZipFile(sys.argv[2], "w") as made:
    made.writestr(info, bootstrap.read())
PYTHON
    aws s3 cp --only-show-errors "$made/$function.zip" "s3://$bucket/$prefix$arch/$function.zip"
done
echo "Published for $arch. Now:"
echo
echo "  aws cloudformation deploy --stack-name ecr-scan-verifier --template-file $here/pipeline.yaml \\"
echo "    --capabilities CAPABILITY_NAMED_IAM \\"
echo "    --parameter-overrides BinariesBucket=$bucket BinariesPrefix=$prefix Architecture=$arch"
