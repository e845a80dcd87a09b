#!/usr/bin/env bash
# The property tests of the pure layer with many cases each, where an overflow is a failure: make fuzz PROPTEST_CASES=100000
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/env.sh
need cargo rustup
need cc build-essential
export PROPTEST_CASES=${PROPTEST_CASES:-5000}
say "$PROPTEST_CASES cases of each property"
cargo test --no-default-features --lib -- fuzz:: chunk::
