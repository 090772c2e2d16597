#!/bin/sh
# Runs one package of client tests (containerd or docker) and that of their world, and counts what passed, failed and
# was skipped. What they need and this system lacks is fetched into build/ once: containerd and dockerd by Go; docker's
# client, the CNI plugins and iptables from Debian, unpacked and not installed. More arguments go to `go test`.
set -eu

CONTAINERD=v2.4.2
DOCKERD=v2.0.0-beta.24
RUNC=v1.5.2
# A package may take so long before it is ended.
LIMIT=10m

PATH=$PATH:/usr/local/go/bin:/usr/sbin:/sbin
cd "$(dirname "$0")"
build=${VMINITD_BUILD:-$(cd ../.. && pwd)/build}
debian=$build/debian
runtime=${VMINIT_RUNTIME:-io.containerd.vminit.v1}

fail() {
    printf 'clients: %s\n' "$1" >&2
    exit 1
}

# has PROGRAM VERSION: whether build/go/bin has it, built from that version of its module.
has() {
    [ -x "$build/go/bin/$1" ] && go version -m "$build/go/bin/$1" | grep -q "^[[:space:]]mod.*[[:space:]]$2[[:space:]]"
}

# fetch VERSION PACKAGE [FLAGS]
fetch() {
    version=$1 package=$2
    shift 2
    has "$(basename "$package")" "$version" && return
    echo "clients: building $package $version"
    GOBIN=$build/go/bin nice go install "$@" "$package@$version" || fail "go cannot build $package $version"
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

download() {
    (cd "$debian/deb" && apt-get -qq download "$@" 2>/dev/null)
}

# unpack PACKAGE...: Debian packages into build/debian.
unpack() {
    command -v apt-get >/dev/null || fail "install what these packages of Debian 12 have: $*"
    echo "clients: unpacking $*"
    mkdir -p "$debian/deb" "$debian/bin"
    # An old index names versions that are gone, so a failure is tried again with a new one.
    download "$@" || { as_root apt-get update -qq && download "$@"; } || fail "apt-get cannot download $*"
    for package in "$@"; do
        dpkg -x "$debian/deb/$package"_*.deb "$debian"
    done
}

libraries() {
    echo "$debian/usr/lib/$(uname -m)-linux-gnu"
}

# wrap PROGRAM FILE: lets it find its libraries and extensions in build/debian.
wrap() {
    printf '#!/bin/sh\nexec env LD_LIBRARY_PATH=%s XTABLES_LIBDIR=%s/xtables %s "$@"\n' \
        "$(libraries)" "$(libraries)" "$debian/$2" >"$debian/bin/$1"
    chmod +x "$debian/bin/$1"
}

containerd() {
    for program in containerd ctr; do fetch $CONTAINERD github.com/containerd/containerd/v2/cmd/$program; done
    [ -x "$debian/usr/lib/cni/bridge" ] || unpack containernetworking-plugins
    command -v iptables >/dev/null || [ -x "$debian/bin/iptables" ] || {
        unpack iptables libip4tc2 libip6tc2 libmnl0 libnetfilter-conntrack3 libnfnetlink0 libnftnl11 libxtables12
        for program in iptables iptables-save iptables-restore ip6tables ip6tables-save ip6tables-restore; do
            wrap "$program" "usr/sbin/$(echo "$program" | sed 's/tables/tables-nft/')"
        done
    }
    # The reference runtime, with a runc that knows what docker asks of it.
    case $runtime in
    *.runc.v2)
        fetch $CONTAINERD github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2
        has runc $RUNC || pkg-config --exists libseccomp || {
            unpack libseccomp-dev libseccomp2
            export PKG_CONFIG_PATH="$(libraries)/pkgconfig" PKG_CONFIG_SYSROOT_DIR="$debian"
        }
        fetch $RUNC github.com/opencontainers/runc -tags seccomp
        ;;
    esac
}

docker() {
    containerd
    fetch $DOCKERD github.com/moby/moby/v2/cmd/dockerd
    [ -x "$debian/bin/docker" ] || {
        unpack docker.io
        ln -sf ../usr/bin/docker "$debian/bin/docker"
    }
}

case ${1:-} in
containerd | docker) tests=$1 ;;
*) fail "say which: containerd or docker" ;;
esac
shift
command -v go >/dev/null || {
    echo "clients: skipped: Go is not installed"
    exit 0
}
[ -e "$build/busybox.tar" ] || fail "$build/busybox.tar is missing; ./taskw image:oci makes it"
case $runtime in
*.vminit.*) [ -x "$build/containerd-shim-vminit-v1" ] || fail "the shim is missing in $build; ./taskw build makes it" ;;
esac
"$tests"

export VMINITD_BUILD="$build" VMINIT_RUNTIME="$runtime"
[ "$(id -u)" = 0 ] || set -- -exec "sudo -E env PATH=$PATH" "$@"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
{ go test -count=1 -v -timeout "$LIMIT" "$@" ./internal/world "./$tests" 2>&1 || echo "clients: failed"; } | tee "$log"
! grep -qx 'clients: failed' "$log" || status=1
count() {
    grep -c -- "^--- $1:" "$log" || true
}
echo "clients: $tests with $runtime:" \
    "$(count PASS) passed, $(count FAIL) failed, $(count SKIP) skipped"
exit $status
