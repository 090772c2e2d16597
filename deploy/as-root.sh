#!/bin/sh
# Runs the command that is given as root: through sudo when not.
set -eu

if [ "$(id -u)" = 0 ]; then exec "$@"; fi
exec sudo -E "$@"
