#!/bin/sh
# Makes the root file system of the demo's and the tests' containers: build/rootfs.ext4 with a static busybox, which
# also lies alone at build/busybox.
set -eu

PATH=$PATH:/usr/sbin:/sbin
cd "$(dirname "$0")/.."
tree=build/rootfs

# Sparse; room for what tests write.
SIZE=64M

fail() {
    printf 'rootfs: %s\n' "$1" >&2
    exit 1
}

busybox=$(command -v busybox) || fail "busybox is missing; install a statically linked one (Debian: busybox-static)"
command -v mkfs.ext4 >/dev/null || fail "mkfs.ext4 is missing; install e2fsprogs"

echo "rootfs: building build/rootfs.ext4 from $busybox"
mkdir -p build
cp "$busybox" build/busybox
rm -rf "$tree"
mkdir -p "$tree/bin" "$tree/sbin" "$tree/dev" "$tree/etc" "$tree/proc" "$tree/root" "$tree/sys" "$tree/tmp"
chmod 1777 "$tree/tmp"
cp build/busybox "$tree/bin/busybox"
for applet in $(build/busybox --list); do
    [ "$applet" = busybox ] || ln -s busybox "$tree/bin/$applet"
done
echo 'root:x:0:0:root:/root:/bin/sh' >"$tree/etc/passwd"
echo 'root:x:0:' >"$tree/etc/group"

rm -f build/rootfs.part
truncate -s "$SIZE" build/rootfs.part
mkfs.ext4 -q -F -E root_owner=0:0 -d "$tree" build/rootfs.part
mv build/rootfs.part build/rootfs.ext4
