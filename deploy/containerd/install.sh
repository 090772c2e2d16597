#!/bin/sh
# Installs what `./taskw build` made, so that a containerd of this host finds its runtime io.containerd.vminit.v1.
# `install.sh --uninstall` takes it away again. It neither starts, stops nor configures containerd or docker.
#
# PREFIX           where bin/containerd-shim-vminit-v1 goes; /usr/local, in the PATH of a containerd that systemd runs
# VMINIT_SHIM_BIN  another shim than that of `./taskw build`
# DESTDIR          the root of another system's tree, to install into that
set -eu

PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
cd "$(dirname "$0")/../.."

built=${VMINIT_SHIM_BIN:-build/containerd-shim-vminit-v1}
root=${DESTDIR:-}
shim=$root${PREFIX:-/usr/local}/bin/containerd-shim-vminit-v1
# Both are where the shim looks by itself (shim/src/config).
library=$root/usr/lib/vminit
config=$root/etc/vminit/config.toml
example=deploy/containerd/config.toml

# What a machine boots, with the mode that each file gets.
IMAGES='vmlinuz 644
initrd.img 644
vhost-device-vsock 755'

fail() {
    printf 'install: %s\n' "$@" >&2
    exit 1
}

# Programs that the shim starts, each with its package in Debian 12.
missing_packages() {
    command -v qemu-system-x86_64 >/dev/null || echo qemu-system-x86
    [ -x /usr/lib/qemu/virtiofsd ] || echo qemu-system-common
    command -v setpriv >/dev/null || echo util-linux
}

check() {
    for file in "$built" $(echo "$IMAGES" | sed 's/\(.*\) .*/build\/\1/'); do
        [ -e "$file" ] || fail "$file is missing; run ./taskw build first"
    done
    packages=$(missing_packages | tr '\n' ' ')
    # What another system's tree lacks cannot be seen from here.
    [ -n "$root" ] || [ -z "$packages" ] || fail "the shim needs more of this host; apt-get install $packages"
}

put() {
    install -D -m "$1" "$2" "$3"
    echo "install: $3"
}

install_all() {
    check
    put 755 "$built" "$shim"
    echo "$IMAGES" | while read -r file mode; do put "$mode" "build/$file" "$library/$file"; done
    if [ -e "$config" ]; then
        echo "install: $config is there and stays as it is"
    else
        put 644 "$example" "$config"
    fi
    cat <<END

containerd needs no further setting:
    ctr run --rm --runtime io.containerd.vminit.v1 IMAGE NAME
docker needs these members in /etc/docker/daemon.json and a restart; then \`docker run --runtime vminit IMAGE\`:
$(sed 's/^/    /' deploy/containerd/daemon.json)
Clients of the CRI: deploy/containerd/config-v2.toml (containerd 1.6, 1.7) or config-v3.toml (2.x).
END
}

uninstall() {
    rm -f "$shim"
    echo "$IMAGES" | while read -r file _; do rm -f "$library/$file"; done
    # A file that its owner has changed is not ours to remove.
    ! cmp -s "$example" "$config" || rm -f "$config"
    [ ! -e "$config" ] || echo "install: $config was changed and stays"
    for folder in "$library" "${config%/*}"; do
        [ ! -d "$folder" ] || rmdir --ignore-fail-on-non-empty "$folder"
    done
    echo "install: removed"
}

case ${1:-} in
"") install_all ;;
--uninstall) uninstall ;;
*) fail "usage: [PREFIX=FOLDER] [DESTDIR=FOLDER] install.sh [--uninstall]" ;;
esac
