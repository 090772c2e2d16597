#!/bin/sh
# Runs `cargo test` with the arguments that are given, and the tests it builds as root: through sudo when not.
set -eu

if [ "$(id -u)" != 0 ]; then
    host=$(rustc -vV | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_')
    export "CARGO_TARGET_${host}_RUNNER=sudo -E"
fi
exec cargo test "$@"
