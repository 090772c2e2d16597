#!/bin/sh
# Runs vminitd-deploy with the arguments that are given. It is built as the tests are, for the whole workspace, and so
# shares with them what it depends on.
set -eu

cd "$(dirname "$0")/.."
cargo build -q --workspace --bin vminitd-deploy
exec "${CARGO_TARGET_DIR:-target}/debug/vminitd-deploy" "$@"
