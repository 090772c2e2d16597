#!/bin/sh
# Runs `cargo test` with the arguments that are given, and the tests it builds as root.
set -eu
exec "$(dirname "$0")/root-cargo.sh" test "$@"
