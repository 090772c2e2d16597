#!/bin/sh
# Makes build/spinbox-initrd, which takes the place of the file spinbox-initrd of a spinbox install: build/vminitd as
# /init, the OCI runtime, and the file that selects the profile. README.md beside this has the rest.
# CRUN names the crun that is to go in, a static one of the host's image for example. Without it this machine's crun
# goes in, or else its runc, with the libraries it needs.
# `image.sh MODULES` also makes build/spinbox-initrd-modules: the same bytes, and behind them the modules of the folder
# MODULES, for a kernel that has not built in what its virtual machine needs.
set -eu

PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
cd "$(dirname "$0")/../.."
image=build/spinbox-initrd

if [ -n "${CRUN:-}" ]; then
    runtime=sbin/crun=$CRUN
elif found=$(command -v crun || command -v runc); then
    runtime=sbin/$(basename "$found")=$found
else
    echo "spinbox: no OCI runtime; set CRUN to the path of a crun, or install one" >&2
    exit 1
fi

# Without time and name in the header, so that the same files give the same image.
compressed() {
    gzip -9 --no-name <"$1" >"$2.part"
    rm "$1"
    mv "$2.part" "$2"
}

deploy() {
    deploy/tool.sh "$@"
}

echo "spinbox: packing $image with $runtime"
deploy spinbox --init build/vminitd --runtime "$runtime" --out "$image.cpio"
compressed "$image.cpio" "$image"
[ $# -gt 0 ] || exit 0

echo "spinbox: packing $image-modules for another kernel"
deploy modules --modules "$1" --out "$image-modules.cpio"
compressed "$image-modules.cpio" "$image-modules.gz"
cat "$image" "$image-modules.gz" >"$image-modules.part"
rm "$image-modules.gz"
mv "$image-modules.part" "$image-modules"
