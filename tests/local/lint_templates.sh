#!/bin/bash
# cfn-lint, pinned, on every template that the CDK package synthesizes.
set -eu
cd "$(dirname "$0")/../.."
python=$(tests/local/pinned_python.py tests/local/lint-requirements.txt "${CARGO_TARGET_DIR:-target}/python")
CFN_LINT=${python%/python}/cfn-lint npm --prefix infra run --silent lint:templates
