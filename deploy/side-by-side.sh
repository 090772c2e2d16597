#!/bin/sh
# Runs the test targets that are named, as root and several at once: they wait more than they work. Each prints what it
# has to say when it has ended. Ends with 0 if all of them did.
set -eu

# Enough to keep two processors busy.
AT_ONCE=4

cd "$(dirname "$0")/.."
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
export logs
printf '%s\n' "$@" | xargs -P "$AT_ONCE" -I{} sh -c '
    status=0
    deploy/root-tests.sh --workspace --test "$1" -- --show-output >"$logs/$1" 2>&1 || status=1
    flock "$logs" cat "$logs/$1"
    exit "$status"
' sh {}
