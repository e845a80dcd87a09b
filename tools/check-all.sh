#!/usr/bin/env bash
# What `make test` does, on every major that is supported, as far as they can be had.
set -euo pipefail
MAJORS=${MAJORS:-14 15 16 17 18} exec "$(dirname "$0")/test.sh"
