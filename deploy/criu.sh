#!/bin/sh
# Makes an initrd with criu in it, build/initrd-criu.img, for the test of checkpoints. Debian's criu is unpacked into
# build/criu and not installed. Without it there is no such initrd, and that is no failure: the test is skipped.
# `criu.sh RUNC` takes the OCI runtime to put in.
set -eu

PATH=$PATH:/usr/sbin:/sbin
cd "$(dirname "$0")/.."
folder=build/criu
runc=$1

# criu, and of its libraries those that a small Debian 12 has not installed.
PACKAGES="criu libbsd0 libjansson4 libmd0 libmnl0 libnet1 libnftables1 libnftnl11 libnl-3-200 libprotobuf-c1 libxtables12"
# What criu asks the kernel for: the sockets of each family, and the features it probes before anything else.
MODULES="unix_diag inet_diag tcp_diag udp_diag raw_diag netlink_diag af_packet_diag nf_tables tun veth"

mkdir -p "$folder"
if ! [ -x "$folder/root/usr/sbin/criu" ]; then
    echo "criu: downloading Debian's criu"
    # One word per package is meant.
    # shellcheck disable=SC2086
    (cd "$folder" && apt-get -qq download $PACKAGES 2>/dev/null) || {
        echo "criu: apt-get cannot download it; the test of checkpoints will be skipped" >&2
        exit 0
    }
    for deb in "$folder"/*.deb; do dpkg -x "$deb" "$folder/root"; done
fi

set --
for module in $MODULES; do set -- "$@" --module "$module"; done
# criu packs tmpfs with tar, which runs gzip by a shell.
for program in tar gzip; do set -- "$@" --program "bin/$program=$(command -v $program)"; done
echo "criu: packing build/initrd-criu.img"
deploy/tool.sh initrd --init build/vminitd --runc "$runc" --modules build/kernel/modules \
    --program "sbin/criu=$folder/root/usr/sbin/criu" --program bin/sh=build/busybox \
    --libraries "$folder/root/usr/lib/x86_64-linux-gnu" "$@" --out build/initrd-criu.img
