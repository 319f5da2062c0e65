# Whoever starts it, the process that reads from Postfix is an ordinary user without any capability.

install_deb
let_postfix_ask
uid=$(inside id -u postfix) gid=$(inside id -g postfix)
none=0000000000000000
# "Groups:" has no trailing blank and no group but the user's own. Inheritable capabilities, which an init in a container may hand to
# all that it starts, are none that a process has, and no program that it runs can gain them: no-new-privs.
confined() { # UID GID PID
    local who
    who=$(identity "$3")
    echo "$who"
    [[ $who == *"Uid: $1 $1 $1 $1; Gid: $2 $2 $2 $2; "* ]] && [[ $who == *"CapPrm: $none; CapEff: $none; "* ]] &&
        [[ $who == *"CapAmb: $none"* ]] && [[ $who == *"NoNewPrivs: 1" ]] &&
        ! grep -Eq 'Groups: (.* )?0( |;)' <<< "$who"
}

check "as a service it is user postfix without capabilities" confined "$uid" "$gid" "$(main_pid)"
# In tenths, as systemd of the release reckons: 245 knows least and comes to 1.5, those from 247 on to 1.3 at most.
exposure() { inside systemd-analyze security --no-pager "$1" | sed -n 's/.* exposure level .*: \([0-9]*\)\.\([0-9]\).*/\1\2/p'; }
check "the sandbox is tight" fewer_than 16 exposure policyd-rate-guard.service
check "the cleanup's sandbox is as tight" fewer_than 16 exposure policyd-rate-guard-cleanup.service
# Off in hardened systems and some containers, where the service would then not start at all.
check "the service asks for no user namespace" prints no property PrivateUsers
check "nor does the cleanup" prints no property PrivateUsers policyd-rate-guard-cleanup.service
# systemd before 247 does not know two settings, skips them and says so. Those of Ubuntu 20.04 and 22.04
# remark on a socket and links of the release's own.
faults() { inside systemd-analyze verify "$@" 2>&1 | grep -v "Unknown .*'\(ProtectProc\|ProcSubset\)'\|treating as alias\|legacy directory" || :; }
check "the units are written well" prints '' faults $units \
    policyd-rate-guard-cleanup.service policyd-rate-guard-cleanup-retry.timer
as_the_service() { inside nsenter --target "$(main_pid)" --mount --setuid "$uid" "$@"; }
check "the service sees its own directory" as_the_service ls "$(dirname "$database")"
check "the service does not see the mail queue" contains 'Permission denied' as_the_service ls /var/spool/postfix
check "a mail passes" accepted test01 1

# By hand as root, on the same socket path.
inside systemctl stop $units
inside rmdir "$(dirname "$socket")"
start_by_hand() { # SETTING...
    inside systemctl reset-failed by-hand.service 2> /dev/null || :
    inside systemd-run --quiet --unit=by-hand --service-type=notify "${@/#/--setenv=}" /usr/sbin/policyd-rate-guard serve
}
by_hand_pid() { property MainPID by-hand.service; }

check "it starts by hand as root" start_by_hand SOCKET="$socket"
check "it has become user postfix without capabilities" confined "$uid" "$gid" "$(by_hand_pid)"
check "it made the socket for Postfix" prints 'postfix:postfix 660' inside stat -c '%U:%G %a' "$socket"
mark_log
check "a mail passes" accepted test01 1
check "it was answered" prints 0 unanswered
check "nothing of root's is in its directories" prints '' inside find /var/lib/policyd-rate-guard /var/log/policyd-rate-guard -user root
inside systemctl stop by-hand.service
inside rm -rf "$(dirname "$socket")"

# Another user, whose group is Postfix's.
inside useradd --system --no-create-home --gid postfix rateguard
inside install -d -o rateguard -g postfix -m 0750 /var/lib/policyd-rate-guard/other
inside chmod 755 /var/lib/policyd-rate-guard
inside_sh "printf '%s\n' 'USER=rateguard' 'DB_DATABASE=/var/lib/policyd-rate-guard/other/counters.db' >> $settings"
other=$(inside id -u rateguard)
check "it starts with another USER" start_by_hand SOCKET="$socket"
check "it has become that user" confined "$other" "$gid" "$(by_hand_pid)"
mark_log
check "a mail passes" accepted test01 1
check "it was answered" prints 0 unanswered
inside systemctl stop by-hand.service
inside sed -i 's/^USER=.*/USER=nobody-of-that-name/' "$settings"
check "an unknown user is an error" fails start_by_hand SOCKET="$socket"
check "the error names it" contains nobody-of-that-name inside journalctl --unit by-hand --output cat --no-pager
inside userdel rateguard
