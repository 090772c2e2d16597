#!/bin/sh
# Shows containers in microVMs under a containerd of its own: runs them, checks each answer, and ends with 0 only if all
# was as expected and nothing is left. `./taskw demo:ctr` builds what it needs and runs it.
#
# It starts itself again in namespaces that stand for a host: processes, mounts and network are its own, /run is empty,
# and what is written below /etc, /usr and /var is seen there only. When it ends, however it ends, the kernel takes all
# of that away; that the runtime itself left nothing is looked at before.
#
# `demo.sh --shell` gives a shell on that host in place of the demo, to try other clients: docs/TESTING.md.
#
# VMINIT_RUNTIME  another runtime, to compare: io.containerd.runc.v2
# CONTAINERD      the folder with another containerd, its ctr and its shims
set -eu

PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
cd "$(dirname "$0")/../.."
self=deploy/containerd/demo.sh

runtime=${VMINIT_RUNTIME:-io.containerd.vminit.v1}
image=docker.io/vminit/busybox:latest
# Tenths of a second that containerd may take to answer, a killed task to stop and processes to be gone. Emulated
# processors on a busy machine need seconds.
PATIENCE=300

fail() {
    printf 'demo: %s\n' "$@" >&2
    exit 1
}

step() {
    printf '\n%s\n' "$1"
}

# Shows a command as a user types it, runs it, and shows what it says; $output and $status are for expect.
try() {
    printf '$ %s\n' "$1"
    status=0
    output=$(eval "$1" 2>&1) || status=$?
    [ -z "$output" ] || printf '%s\n' "$output"
}

# expect STATUS [TEXT]: how the last command has to have ended, and what it has to have said among others.
expect() {
    [ "$status" = "$1" ] || fail "that ended with $status, and $1 was expected"
    [ $# = 1 ] || case $output in *"$2"*) ;; *) fail "that did not say: $2" ;; esac
}

# Waits until the command succeeds.
await() {
    left=$PATIENCE
    until "$@" >/dev/null 2>&1; do
        left=$((left - 1))
        [ "$left" -gt 0 ] || return 1
        sleep 0.1
    done
}

make_host() {
    mount -t tmpfs -o mode=755 tmpfs /run
    for folder in etc usr var; do
        mkdir -p "/run/host/$folder" "/run/host/$folder.work"
        mount -t overlay -o "lowerdir=/$folder,upperdir=/run/host/$folder,workdir=/run/host/$folder.work" \
            overlay "/$folder"
    done
    ip link set lo up
    mkdir /run/tmp
    export TMPDIR=/run/tmp
    deploy/containerd/install.sh >/run/host/install.log || fail "the shim cannot be installed"
}

start_containerd() {
    cat >/run/host/containerd.toml <<END
version = 2
root = "/run/host/containerd"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
END
    containerd --config /run/host/containerd.toml >/run/host/containerd.log 2>&1 &
    containerd=$!
    await ctr version || fail "containerd does not answer" "$(tail /run/host/containerd.log)"
}

stop_containerd() {
    kill "$containerd"
    wait "$containerd" || fail "containerd ended with $?"
}

is_in_state() {
    ctr task ls | grep -q "^$1 .* $2\$"
}

show_image() {
    step "An image of busybox, made by this project"
    try "ctr image import build/busybox.tar"
    expect 0 "$image"
}

show_run() {
    step "A container in a microVM: its output, and its exit status"
    try "ctr run --rm --runtime $runtime $image hello sh -c 'echo hello from Linux \$(uname -r); exit 7'"
    expect 7 "hello from Linux $kernel"
    echo "exit status 7"
}

show_life() {
    step "One that stays: a second process in it, a pause, a kill"
    try "ctr run --detach --runtime $runtime $image sleeper sleep 1000"
    expect 0
    try "ctr task ls"
    expect 0 RUNNING
    try "ctr task exec --exec-id second sleeper ps"
    expect 0 "sleep 1000"
    try "ctr task pause sleeper"
    expect 0
    try "ctr task ls"
    expect 0 PAUSED
    try "ctr task resume sleeper"
    expect 0
    try "ctr task ls"
    expect 0 RUNNING
    try "ctr task kill --signal SIGKILL sleeper"
    expect 0
    await is_in_state sleeper STOPPED || fail "it does not stop"
}

show_removal() {
    step "It is removed, and its exit status told"
    try "ctr task rm sleeper"
    expect 0 "exit code 137"
    try "ctr container rm sleeper"
    expect 0
    try "ctr image rm --sync $image"
    expect 0
}

# Every process but this shell. No pipe and no substitution, which would be further ones.
see_processes() {
    others=
    for folder in /proc/[0-9]*; do
        [ "$folder" = /proc/$$ ] || ! read -r name <"$folder/comm" || others="$others $name(${folder#/proc/})"
    done 2>/dev/null
}

is_alone() {
    see_processes
    [ -z "$others" ]
}

mounts() {
    cut -d ' ' -f 5 /proc/self/mountinfo | sort
}

check_nothing_left() {
    step "Nothing is left"
    for what in container snapshot; do
        [ "$(ctr "$what" ls | wc -l)" = 1 ] || fail "a $what is left:" "$(ctr "$what" ls)"
    done
    stop_containerd
    await is_alone || fail "processes are left:$others"
    [ "$(mounts)" = "$mounts_before" ] || fail "mounts are left:" "$(mounts | grep -vxF "$mounts_before")"
    links=$(ip -o link | grep -v ' lo: ' || true)
    [ -z "$links" ] || fail "network links are left:" "$links"
    find /run/vminit /run/tmp -mindepth 1 >/run/host/left 2>/dev/null || true
    # Bundles and logs are named by their container; sockets and FIFOs are of containerd or of a shim.
    find /run \( -name hello -o -name sleeper -o -type s -o -type p \) \
        ! -path '/run/containerd/containerd.sock*' >>/run/host/left 2>/dev/null || true
    [ ! -s /run/host/left ] || fail "files are left:" "$(cat /run/host/left)"
    echo "no process, mount, network link, snapshot, socket or file"
}

# Says what containerd and the shims said, when something went wrong.
report() {
    status=$?
    [ "$status" != 0 ] || exit 0
    echo "demo: what containerd and its shims logged last:" >&2
    grep -v 'loading plugin' /run/host/containerd.log | tail -n 30 >&2
    exit "$status"
}

begin() {
    # The first process of a namespace gets only those signals that it asks for.
    trap 'exit 130' INT TERM
    trap report EXIT
    # What would lead ctr to another containerd.
    unset CONTAINERD_ADDRESS CONTAINERD_NAMESPACE CONTAINERD_SNAPSHOTTER
    PATH=${CONTAINERD:-$PWD/build/containerd/root/usr/bin}:$PATH
    make_host
    mounts_before=$(mounts)
    start_containerd
}

demo() {
    case $runtime in
    *vminit*) kernel=$(basename "$(readlink build/kernel/modules)") ;;
    *) kernel=$(uname -r) ;;
    esac
    show_image
    show_run
    show_life
    show_removal
    check_nothing_left
}

shell() {
    ctr image import build/busybox.tar
    echo "containerd answers at /run/containerd/containerd.sock and has the image $image"
    # How the last command ended says nothing about the host.
    "${SHELL:-/bin/sh}" || true
}

case ${1:-} in
"" | --shell)
    [ "$(id -u)" = 0 ] || exec sudo -E "$self" "$@"
    exec unshare --net --mount --pid --fork --kill-child --mount-proc "$self" --inside "$@"
    ;;
--inside)
    begin
    if [ $# = 1 ]; then demo; else shell; fi
    ;;
*) fail "usage: demo.sh [--shell]" ;;
esac
