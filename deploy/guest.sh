#!/bin/sh
# Builds the static guest binary and leaves it at build/vminitd.
set -eu

cd "$(dirname "$0")/.."
target=x86_64-unknown-linux-musl
if ! rustup target list --installed | grep -qx "$target" && ! rustup target add "$target" >/dev/null 2>&1; then
    target=x86_64-unknown-linux-gnu
    echo "guest: rustup cannot add the musl target, so glibc is linked in: the binary will be larger"
    export RUSTFLAGS="${RUSTFLAGS:-} -C target-feature=+crt-static"
fi
echo "guest: building vminitd for $target"
cargo build -q -p vminitd --profile guest --target "$target"
mkdir -p build
cp "${CARGO_TARGET_DIR:-target}/$target/guest/vminitd" build/vminitd
echo "guest: build/vminitd has $(wc -c <build/vminitd) bytes"
