# What scenarios are written with. Sourced by tests/e2e/run; commands run on this machine, "inside" runs them in the rig.
# Wanted beforehand: e2e, this directory; results, a directory of its own; RIG_ROOT; deb and rpm, the packages.
# shellcheck shell=bash disable=SC2034,SC2154  # its variables are for scenarios, and those named here are the runner's

package=policyd-rate-guard
settings=/etc/policyd-rate-guard/policyd-rate-guard.env
database=/var/lib/policyd-rate-guard/policyd-rate-guard.db
socket=/var/spool/postfix/rateguard/policyd
units="policyd-rate-guard.socket policyd-rate-guard.service policyd-rate-guard-cleanup.timer"

inside() { "$rig/exec" "$@"; }
inside_sh() { "$rig/exec" bash -euo pipefail -c "$@"; }

# --- saying what is so

# check SENTENCE COMMAND...: the sentence holds if the command succeeds. The report is descriptor 3.
check() {
    local sentence=$1 output
    shift
    if output=$("$@" 2>&1); then
        printf 'ok      %s\n' "$sentence" >&3
        echo "$sentence" >> "$results/passed"
    else
        printf 'FAILED  %s\n        %s\n' "$sentence" "$*" >&3
        tail -n 25 <<< "$output" | sed 's/^/        | /' >&3
        echo "$sentence" >> "$results/failed"
    fi
}

# needs PROGRAM: what a release may lack. Without it the scenario ends here, and the report says that it was not run.
needs() {
    inside which "$1" > /dev/null 2>&1 || {
        printf 'NOT RUN the release has no %s\n' "$1" >&3
        echo "$1" >> "$results/not_run"
        exit 0
    }
}

fails() { ! "$@"; }

# contains TEXT COMMAND...: what the command prints has TEXT in it, whatever its status.
contains() {
    local text=$1 output
    shift
    output=$("$@" 2>&1) || :
    [[ $output == *"$text"* ]] || { printf 'no "%s" in:\n%s\n' "$text" "$output"; return 1; }
}

# prints TEXT COMMAND...: the command prints exactly TEXT.
prints() {
    local text=$1 output
    shift
    output=$("$@" 2>&1) || :
    [ "$output" = "$text" ] || { printf 'wanted: %s\ngot:    %s\n' "$text" "$output"; return 1; }
}

# eventually SECONDS COMMAND...: the command succeeds within so many seconds.
eventually() {
    local end=$((SECONDS + $1)) output
    shift
    until output=$("$@" 2>&1); do
        [ $SECONDS -lt $end ] || { printf '%s\n' "$output"; return 1; }
        sleep 0.1
    done
}

# --- the package

# With nobody to answer a question; dpkg then fails, should it have one.
install_deb() { cp -- "${1:-$deb}" "$RIG_ROOT/root/" && inside dpkg --install "/root/$(basename -- "${1:-$deb}")" < /dev/null; }

# As apt does it where settings were edited: the administrator's file wins.
upgrade_deb() { cp -- "$1" "$RIG_ROOT/root/" && inside dpkg --force-confold --install "/root/$(basename -- "$1")" < /dev/null; }

# repack_deb VERSION FILE: the package under test as another version, whose settings file has one more line.
repack_deb() {
    local tree
    tree=$(mktemp -d)
    dpkg-deb --raw-extract "$deb" "$tree"
    sed -i "s/^Version: .*/Version: $1/" "$tree/DEBIAN/control"
    echo "# One more setting of version ${1%%.*}." >> "$tree$settings"
    dpkg-deb --root-owner-group --build "$tree" "$2" > /dev/null
    rm -rf "$tree"
}
newer_deb() { repack_deb 99.0.0-1 "$1"; }

# The same for the .rpm, by building it once more.
newer_rpm() {
    local top
    top=$(mktemp -d)
    mkdir "$top/SOURCES"
    cp "$project"/target/rpm/build/SOURCES/*-prebuilt.tar.gz "$top/SOURCES/"
    tar -C "$top" -xzf "$(compgen -G "$project/target/rpm/build/SOURCES/*[0-9].tar.gz")"
    echo '# One more setting of version 99.' >> "$top"/policyd-rate-guard-*"/etc/policyd-rate-guard/policyd-rate-guard.env"
    tar -C "$top" --exclude=./SOURCES -czf "$top/SOURCES/$(basename "$(compgen -G "$project/target/rpm/build/SOURCES/*[0-9].tar.gz")")" .
    rpmbuild --quiet -bb --define "_topdir $top" --define 'package_release 99' \
        "$(compgen -G "$top/policyd-rate-guard-*/rpm/policyd-rate-guard.spec")"
    mv "$top"/RPMS/*/*.rpm "$1"
    rm -rf "$top"
}

# rpm knows nothing of what dpkg has installed: its dependencies cannot be asked for here.
install_rpm() { cp -- "${1:-$rpm}" "$RIG_ROOT/root/" && inside rpm --upgrade --nodeps --verbose "/root/$(basename -- "${1:-$rpm}")"; }

# --- an operator's own repository, by deploy/repository

# A key, and where the repository is made: /srv/repository inside.
operators_repository() {
    export GNUPGHOME=$results/gnupg
    rm -rf "$GNUPGHOME"
    install -d -m 700 "$GNUPGHOME"
    gpg --batch --quiet --passphrase '' --quick-gen-key 'The operator <packages@example.com>' rsa3072 sign never
    repository=$RIG_ROOT/srv/repository
}
add_to_repository() { "$project/deploy/repository" --key packages@example.com --url file:///srv/repository "$repository" "$@"; }
remove_repository() {
    gpgconf --homedir "$GNUPGHOME" --kill all
    unset GNUPGHOME
    inside_sh 'rm -rf /srv/repository /etc/yum.repos.d/policyd-rate-guard.repo /etc/apt/keyrings/policyd-rate-guard.asc \
        /etc/apt/sources.list.d/policyd-rate-guard.sources'
}

# set_to NAME=VALUE...: writes settings in place of those of the same name, and restarts the daemon.
set_to() {
    local setting
    for setting in "$@"; do
        inside sed -i "/^#\? *${setting%%=*}=/d" "$settings"
        inside_sh "printf '%s\n' \"\$1\" >> $settings" set_to "$setting"
    done
    inside systemctl restart policyd-rate-guard.service
}

property() { inside systemctl show --value --property "$1" "${2:-policyd-rate-guard.service}"; }
main_pid() { property MainPID; }
# runs_anew PID: the service runs, and no longer as the process that it was.
runs_anew() {
    local pid
    pid=$(main_pid) && echo "$1, now $pid" && [ "$1" -gt 0 ] && [ "$pid" -gt 0 ] && [ "$pid" -ne "$1" ] &&
        active policyd-rate-guard.service
}

# Of several units, systemctl is content with one; these want all.
active() { local unit; for unit in "$@"; do inside systemctl is-active "$unit" || return 1; done; }
inactive() { ! inside systemctl is-active --quiet "$@"; }
enabled() { local unit; for unit in "$@"; do inside systemctl is-enabled "$unit" || return 1; done; }
disabled() { ! inside systemctl is-enabled --quiet "$@"; }

# --- PolicydRateGuard

# A running installation of it, which main.cf asks.
old_units="policyd-rate-guard.service policyd-rate-guard-cleanup.timer"
start_predecessor() {
    inside systemctl start mariadb.service
    tar -C "$e2e/policydrateguard" --owner=0 --group=0 -cf - etc opt | inside tar -C / --no-overwrite-dir -xf -
    inside_sh 'mysql < /opt/policyd-rate-guard/tables.sql
        install -d -o postfix -g postfix -m 0750 /var/log/policyd-rate-guard
        runuser -u postfix -- sh -c "echo a line of the old program > /var/log/policyd-rate-guard/policyd-rate-guard.log"
        systemctl daemon-reload'
    # shellcheck disable=SC2086  # one word for each unit
    inside systemctl --quiet enable --now $old_units
    set_main_cf 'smtpd_data_restrictions = check_policy_service { inet:127.0.0.1:10033, default_action=DUNNO }'
}
drop_predecessors_database() {
    inside_sh "mysql --execute \"DROP DATABASE \\\`policyd-rate-guard\\\`; DROP USER 'policyd'@'localhost'\"; systemctl stop mariadb.service"
}

# switch_over FILE: the commands that an installation has printed into it, one after the other.
switch_over() {
    grep -E '^    [a-z]' "$1" > "$RIG_ROOT/root/switch" && inside sh -e -x /root/switch && inside rm /root/switch
}
its_logrotate_rule_is_there() { diff "$e2e/policydrateguard/etc/logrotate.d/policyd-rate-guard" "$RIG_ROOT/etc/logrotate.d/policyd-rate-guard"; }

# --- Postfix

# The lines that the package hands out for main.cf.
main_cf_lines() { sed -e '/^#/d' -e '/^$/d' "$RIG_ROOT/usr/share/doc/$package/examples/postfix/main.cf"; }

let_postfix_ask() {
    main_cf_lines | inside_sh 'cat >> /etc/postfix/main.cf'
    inside systemctl reload postfix
}

# set_main_cf LINE: the policy check as one line of main.cf.
set_main_cf() { inside postconf -e "$1" && inside systemctl reload postfix; }

send() { "$rig/send" "$@"; }
accepted() { contains 'queued as' send "$@"; }
deferred() { contains '450 4.7.1' send "$@"; }

# Postfix says so when it got no answer and used default_action. mark_log begins a count; unanswered prints it.
mark_log() { log_mark=$(wc -l < "$RIG_ROOT/var/log/mail.log"); }
since_mark() { tail -n "+$((log_mark + 1))" "$RIG_ROOT/var/log/mail.log"; }
unanswered() { since_mark | grep -c 'problem talking to server' || :; }
logged() { since_mark | grep -E "policyd-rate-guard(\[[0-9]+\])?: .*$1"; }
logged_by_postfix() { since_mark | grep -E "postfix/[^ ]+: .*$1"; }

# counted SENDER: messages and recipients, as the database has them.
counted() {
    inside runuser -u postfix -- sqlite3 "$database" \
        "SELECT msg_counter || ' messages, ' || rcpt_counter || ' recipients' FROM ratelimits WHERE sender = '$1'"
}

# passed: how many mails Postfix has taken since the mark.
passed() { since_mark | grep -c 'queue active' || :; }
at_least() { local count; count=$("${@:2}") && echo "$count" && [ "$count" -ge "$1" ]; }
fewer_than() { local count; count=$("${@:2}") && echo "$count" && [ "$count" -lt "$1" ]; }

# flood_during PAUSE SENTENCE COMMAND...: 200 mails of test01 over ten connections, with PAUSE seconds between two of one.
# The command runs after the first of them and before the last, and harms none.
flood_during() {
    local pause=$1 sentence=$2 flood
    shift 2
    mark_log
    "$rig/flood" 200 10 "$pause" > "$results/flood" &
    flood=$!
    check "mails come in" eventually 20 at_least 10 passed
    check "$sentence" "$@"
    check "mails still come in" fewer_than 200 passed
    wait "$flood"
    check "200 mails meanwhile: all accepted" grep -F '{"codes": {"250": 200}' "$results/flood"
    check "all were answered" prints 0 unanswered
}

# identity PID: who a process is, on one line.
identity() {
    # shellcheck disable=SC2016  # awk's own
    inside awk '/^(Uid|Gid|Groups|CapInh|CapPrm|CapEff|CapBnd|CapAmb|NoNewPrivs):/ { $1 = $1; printf "%s%s", sep, $0; sep = "; " }' "/proc/$1/status"
}

# --- the machine between scenarios

# What the package could leave behind: files, and directories of its name. In the books of ucf and systemd, only what bears its
# name; ucf's also have it in their text. Logs of others, caches (of Postfix's TLS sessions too, which it makes when it likes), and the
# books of dpkg and rpm are not looked at.
machine_files() {
    inside find /etc /opt /usr /var /root -xdev \
        \( -path /var/lib/dpkg -o -path /var/lib/rpm -o -path /root/.rpmdb -o -path /var/lib/mysql -o -path /var/lib/mariadb \
        -o -path /var/lib/apt -o -path /var/lib/dnf -o -path /var/lib/logrotate -o -path /var/lib/monit -o -path '/var/lib/postfix/*_scache.db' -o -path /var/cache -o -path /var/tmp \
        -o -path /var/log/journal -o -path /var/log/apt -o -path '/var/log/*log*' -o -path '/var/log/mail.*' -o -path '/etc/*-' -o -path /root/debs \
        -o -path '/root/*.deb' -o -path '/root/*.rpm' -o -path '/var/spool/postfix/*/*' \) -prune \
        -o \( -path '/var/lib/ucf/*' -o -path '/var/lib/systemd/*' \) ! -name '*rate*guard*' \
        -o \( ! -type d -o -name '*rate*guard*' \) -print | sort
    inside grep -s rate-guard /var/lib/ucf/hashfile /var/lib/ucf/registry || :
}

# After each scenario, whatever became of it.
leave_clean() {
    inside_sh '
        systemctl stop by-hand.service 2> /dev/null || :
        if dpkg-query --status policyd-rate-guard > /dev/null 2>&1; then dpkg --purge policyd-rate-guard; fi
        if rpm --quiet --query policyd-rate-guard; then rpm --erase policyd-rate-guard; fi
        rm -rf /run/systemd/system/policyd-rate-guard* /etc/systemd/system/policyd-rate-guard* /etc/systemd/system/*.wants/policyd-rate-guard*
        systemctl daemon-reload
        systemctl stop policyd-rate-guard.service policyd-rate-guard.socket policyd-rate-guard-cleanup.timer 2> /dev/null || :
        systemctl reset-failed
        rm -rf /etc/policyd-rate-guard /etc/logrotate.d/policyd-rate-guard* /var/lib/policyd-rate-guard /var/log/policyd-rate-guard \
            /var/lib/systemd/timers/stamp-policyd-rate-guard* /var/spool/postfix/rateguard /opt/policyd-rate-guard /root/PolicydRateGuard
        postconf -X smtpd_data_restrictions
        systemctl reload postfix
        postsuper -d ALL
    '
}
