#!/bin/sh
# Installs the Debian packages that building, the microVM and the tests need.
# `packages.sh --check` only tells by its status whether all are there.
set -eu

PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

# A program, and the package that has it.
PROGRAMS='
cc                  gcc
ld                  binutils
qemu-system-x86_64  qemu-system-x86
runc                runc
crun                crun
busybox             busybox-static
mkfs.ext4           e2fsprogs
depmod              kmod
ip                  iproute2
setpriv             util-linux
'
# A file that is no program of the PATH, and its package. Without headers `cc` cannot link.
FILES='
/usr/include/stdio.h     libc6-dev
/usr/lib/qemu/virtiofsd  qemu-system-common
'

missing() {
    echo "$PROGRAMS" | while read -r program package; do
        [ -z "$program" ] || command -v "$program" >/dev/null || echo "$package"
    done
    echo "$FILES" | while read -r file package; do
        [ -z "$file" ] || [ -e "$file" ] || echo "$package"
    done
    # Debian's other busybox is dynamic, and would not run in an empty root.
    if command -v busybox >/dev/null && ldd "$(command -v busybox)" >/dev/null 2>&1; then echo busybox-static; fi
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

install() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

packages=$(missing | tr '\n' ' ')
[ "${1:-}" != --check ] || exec test -z "$packages"
[ -n "$packages" ] || exit 0

if ! command -v apt-get >/dev/null; then
    echo "packages: missing, by the names of Debian 12: $packages" >&2
    echo "packages: this system has no apt-get; install what provides them with its own package manager" >&2
    exit 1
fi
echo "packages: installing $packages"
# One word per package is meant. An old index names versions that are gone, so a failure is tried again with a new one.
# shellcheck disable=SC2086
install $packages 2>/dev/null || { as_root apt-get update -qq && install $packages; } || {
    echo "packages: apt-get cannot install $packages; install them by hand and run again" >&2
    exit 1
}
# shellcheck disable=SC2086
dpkg-query -W -f '  ${Package} ${Version}\n' $packages
