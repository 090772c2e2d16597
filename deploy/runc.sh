#!/bin/sh
# Prints the path of the OCI runtime that goes into the initrd: RUNC, as seen from the folder that is given, or else this
# machine's runc, or nothing when it has none.
set -eu

PATH=$PATH:/usr/sbin:/sbin
cd "$1"
[ -n "${RUNC:-}" ] || RUNC=$(command -v runc) || exit 0
[ -x "$RUNC" ] || {
    echo "runc: $RUNC is no program" >&2
    exit 1
}
realpath "$RUNC"
