#!/usr/bin/env bash
# Runs the property tests of the pure layer with many cases each and overflow checks: make fuzz
# PROPTEST_CASES=100000
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/env.sh
need cargo rustup
need cc build-essential
export PROPTEST_CASES=${PROPTEST_CASES:-5000}
say "$PROPTEST_CASES cases of each property"
cargo test --no-default-features --lib -- fuzz:: chunk:: tokenizer::
