#!/bin/sh
# Unpacks Debian's containerd with its `ctr` into build/containerd. It is not installed: the package would start a
# service.
set -eu

cd "$(dirname "$0")/../.."
folder=build/containerd

fail() {
    printf 'containerd: %s\n' "$@" >&2
    exit 1
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

download() {
    (cd "$folder" && apt-get -qq download containerd 2>/dev/null)
}

[ ! -x "$folder/root/usr/bin/containerd" ] || exit 0
mkdir -p "$folder"
if ! ls "$folder"/containerd_*.deb >/dev/null 2>&1; then
    command -v apt-get >/dev/null || fail \
        "no $folder/containerd_*.deb, and no apt-get to download it" \
        "put the package containerd of Debian 12 into $folder and run again"
    echo "containerd: downloading Debian's containerd"
    download || { as_root apt-get update -qq && download; } || fail \
        "apt-get cannot download containerd" \
        "put that package of Debian 12 into $folder and run again"
fi
rm -rf "$folder/part"
dpkg -x "$(ls "$folder"/containerd_*.deb | tail -n 1)" "$folder/part"
rm -rf "$folder/root"
mv "$folder/part" "$folder/root"
echo "containerd: build/containerd has $("$folder/root/usr/bin/containerd" --version | cut -d ' ' -f 3)"
