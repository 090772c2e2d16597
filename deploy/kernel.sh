#!/bin/sh
# Unpacks Debian's cloud kernel into build/kernel, without installing it, and takes the ELF image out of it:
# build/vmlinuz, with the modules and their index in build/kernel/lib/modules.
set -eu

PATH=$PATH:/usr/sbin:/sbin
cd "$(dirname "$0")/.."
folder=build/kernel

fail() {
    printf 'kernel: %s\n' "$@" >&2
    exit 1
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# The package that the newest cloud kernel's name stands for.
package() {
    apt-cache depends linux-image-cloud-amd64 2>/dev/null | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p'
}

download() {
    name=$(package)
    [ -n "$name" ] && (cd "$folder" && apt-get -qq download "$name" 2>/dev/null)
}

[ "$(uname -m)" = x86_64 ] || fail "only x86_64 machines are supported, this is $(uname -m)"
mkdir -p "$folder"
if ! ls "$folder"/linux-image-*.deb >/dev/null 2>&1; then
    command -v apt-get >/dev/null || fail \
        "no $folder/linux-image-*.deb, and no apt-get to download it" \
        "put the package linux-image-6.1.*-cloud-amd64 of Debian 12 into $folder and run again"
    echo "kernel: downloading Debian's cloud kernel"
    download || { as_root apt-get update -qq && download; } || fail \
        "apt-get cannot download the kernel that linux-image-cloud-amd64 depends on" \
        "put such a package of Debian 12 into $folder and run again"
fi

echo "kernel: unpacking into $folder"
rm -rf "$folder/root"
mkdir "$folder/root"
deb=$(ls "$folder"/linux-image-*.deb | tail -n 1)
if command -v dpkg >/dev/null; then
    dpkg -x "$deb" "$folder/root"
else
    ar p "$deb" data.tar.xz | tar -xJf - -C "$folder/root"
fi
version=$(basename "$(ls -d "$folder"/root/lib/modules/*)")
# The package leaves the index of its modules to the machine that installs it.
depmod -b "$folder/root" "$version"
ln -sfn "root/lib/modules/$version" "$folder/modules"
deploy/tool.sh vmlinux "$folder/root/boot/vmlinuz-$version" build/vmlinuz
echo "kernel: build/vmlinuz is Linux $version"
