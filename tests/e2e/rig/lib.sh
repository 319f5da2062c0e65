# Common parts of the rig commands; sourced by them, not run.
# shellcheck shell=bash

set -euo pipefail

RIG_CACHE=${RIG_CACHE:-/var/cache/policyd-rig}
RIG_STATE=${RIG_STATE:-/run/policyd-rig}
# shellcheck disable=SC2034  # boot uses it
RIG_PACKAGES="postfix swaks libnet-ssleay-perl rsyslog logrotate libsasl2-modules sasl2-bin python3-minimal libpython3-stdlib iproute2 procps netcat-openbsd man-db ucf rpm dnf python3-apt monit sqlite3 mariadb-server tzdata"
# shellcheck disable=SC2034  # of these, what a release may lack: a scenario says so with "needs"
RIG_MAY_LACK="dnf"
# shellcheck disable=SC2034  # boot masks or disables them: nothing may run by itself during a test
RIG_MASKED_TIMERS="apt-daily apt-daily-upgrade e2scrub_all e2scrub_reap man-db dpkg-db-backup logrotate fstrim"
# shellcheck disable=SC2034
RIG_DISABLED_SERVICES="mariadb monit"

say() { printf 'rig: %s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

need_root() { [ "$(id -u)" -eq 0 ] || die "this needs root"; }

# The root directory that a command works on: $RIG_ROOT, or the one that boot started last.
rig_root() {
    if [ -n "${RIG_ROOT:-}" ]; then
        readlink -f -- "$RIG_ROOT"
    elif [ -L "$RIG_STATE/current" ]; then
        readlink -f -- "$RIG_STATE/current"
    else
        die "no rig is known: run rig/boot ROOTDIR first, or set RIG_ROOT"
    fi
}

# Where the pid, the log and the settings of a rig live (beside its root, never inside).
rig_meta() { printf '%s.rig' "$1"; }

# A short machine name for root $1.
rig_machine() { printf 'rig-%s' "$(printf '%s' "$1" | sha256sum | cut -c1-8)"; }

# The control group hierarchies that systemd uses: legacy, hybrid or unified.
rig_cgroups() {
    local dir
    for dir in /sys/fs/cgroup /sys/fs/cgroup/systemd /sys/fs/cgroup/unified; do
        [ ! -w "$dir/cgroup.procs" ] || printf '%s\n' "$dir"
    done
}

# Prints the pid of systemd-nspawn for root $1 if it is alive and is really that process.
rig_nspawn_pid() {
    local file pid
    file=$(rig_meta "$1")/nspawn.pid
    [ -s "$file" ] || return 1
    pid=$(cat "$file")
    [ -r "/proc/$pid/cmdline" ] || return 1
    tr '\0' '\n' < "/proc/$pid/cmdline" | grep -qxF -e "--directory=$1" || return 1
    printf '%s\n' "$pid"
}

# Prints the pid (seen from the host) of the container's init.
rig_init_pid() {
    local pid child
    pid=$(rig_nspawn_pid "$1") || return 1
    # shellcheck disable=SC2013  # words are wanted
    for child in $(cat "/proc/$pid/task/$pid/children" 2>/dev/null); do
        if [ "$(readlink "/proc/$child/ns/pid")" != "$(readlink /proc/self/ns/pid)" ]; then
            printf '%s\n' "$child"
            return 0
        fi
    done
    return 1
}

# rig_enter ROOT NET COMMAND...: runs a command in the container of ROOT.
# NET is "own" (the container's network) or "host".
rig_enter() {
    local root=$1 net=$2 init v
    shift 2
    init=$(rig_init_pid "$root") || die "the rig in $root does not run: rig/boot $root"
    local -a ns=(--target "$init" --mount --uts --ipc --pid)
    [ "$net" = host ] || ns+=(--net)
    local -a env=(PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
        "TERM=${TERM:-dumb}" DEBIAN_FRONTEND=noninteractive)
    for v in http_proxy https_proxy no_proxy; do
        [ -z "${!v:-}" ] || env+=("$v=${!v}")
    done
    nsenter "${ns[@]}" env -i "${env[@]}" "$@"
}
