# What "doctor" says of the set-up that the package describes, and of ways to get it wrong. Each is mended again.

list=smtpd_data_restrictions
ask='check_policy_service { unix:rateguard/policyd, timeout=5s, default_action=DUNNO }'

# The exit status and what was found: "1 problem:not-asked".
diagnosis() {
    local report status=0
    report=$(inside policyd-rate-guard doctor --json) || status=$?
    python3 -c 'import json, sys
report = json.load(sys.stdin)
findings = report["findings"]
assert report["ok"] == (sys.argv[1] == "0"), report
assert all(finding[part] for finding in findings for part in ("what", "why", "mend")), report
print(sys.argv[1], *sorted({finding["severity"] + ":" + finding["id"] for finding in findings}))' $status <<< "$report"
}
finds() { prints "$1" diagnosis; }
# The words for people go to standard output, too.
says() { contains "$1" inside policyd-rate-guard doctor; }
main_cf() { inside postconf -e "$@"; }
# main.cf, the settings, the sockets and the database as the package and the two lines make them.
mend() {
    inside_sh "cp -p /root/main.cf /etc/postfix/main.cf; cp -p /root/settings $settings
        systemctl stop policyd-rate-guard.service
        systemctl reset-failed policyd-rate-guard.socket
        systemctl restart policyd-rate-guard.socket
        systemctl start policyd-rate-guard.service"
}

install_deb
inside cp -p /etc/postfix/main.cf /root/main.cf.before
trap 'inside mv /root/main.cf.before /etc/postfix/main.cf; inside rm -f /root/main.cf /root/settings' EXIT
let_postfix_ask
accepted test01 1
check "limits that learn are said to" finds '0 advice:learning'
inside_sh "sed -i '/^LIMITS=/d' $settings"
inside_sh "cp -p /etc/postfix/main.cf /root/main.cf; cp -p $settings /root/settings"

check "with the two lines all is well" finds 0
check "so it says" says 'All is well.'
check "user postfix hears the same" contains 'All is well.' \
    inside runuser -u postfix -- env STATE_DIRECTORY="$(dirname "$database")" policyd-rate-guard doctor
check "the test requests were not counted" prints '1' inside runuser -u postfix -- sqlite3 "$database" 'SELECT count(*) FROM ratelimits'

# main.cf
main_cf "$list ="
check "nobody asks" finds '1 problem:not-asked'
check "the line to write is shown" says "$list = $ask"
main_cf "$list = permit_sasl_authenticated, $ask"
check "logins are let through before the check" finds '1 problem:list-ends-before'
main_cf "$list = permit_mynetworks, $ask"
check "own networks are let through before the check" finds '0 advice:list-may-end-before'
main_cf "$list = \$first, $ask" 'first = reject_unauth_pipelining, permit'
check "permit hides in a parameter" finds '1 problem:list-ends-before'
main_cf "$list = limited" "limited = permit, $ask" 'smtpd_restriction_classes = limited'
check "permit stands first in a restriction class" finds '1 problem:list-ends-before'
mend
main_cf "$list =" "smtpd_etrn_restrictions = $ask"
check "asked for ETRN only" finds '1 problem:wrong-stage'
mend
main_cf "$list =" smtpd_delay_reject=no "smtpd_sender_restrictions = $ask"
check "asked at MAIL FROM" finds '1 problem:wrong-stage'
main_cf smtpd_delay_reject=yes
check "asked once for each recipient" finds '0 advice:early-stage'
mend
inside postconf -P "127.0.0.1:10587/inet/$list=permit_sasl_authenticated,check_policy_service,{unix:rateguard/policyd,timeout=5s,default_action=DUNNO}"
check "master.cf overrides main.cf" finds '1 problem:list-ends-before'
check "the service is named" says "$list of 127.0.0.1:10587/inet: permit_sasl_authenticated stands before"
inside postconf -PX "127.0.0.1:10587/inet/$list"
inside postconf -P "127.0.0.1:10587/inet/$list=permit"
check "a service for logins has a list of its own" finds '0 advice:not-asked'
inside postconf -PX "127.0.0.1:10587/inet/$list"
main_cf "$list = warn_if_reject $ask"
check "the dry run is still on" finds '1 problem:only-warned'
main_cf "$list = ${ask/, default_action=DUNNO/}"
check "no default_action" finds '1 problem:no-default-action'
main_cf "$list = ${ask/5s/100s}"
check "a timeout that is too long" finds '0 advice:timeout-too-long'
main_cf "$list = ${ask/5s/1s}"
check "a timeout that is too short" finds '1 problem:timeout-too-short'
main_cf "$list = ${ask/unix:/unix:/var/spool/postfix/}"
check "an absolute path, and smtpd in its chroot" finds '1 problem:absolute-in-chroot'
main_cf "$list = ${ask/unix:rateguard\/policyd/inet:127.0.0.1:10033}"
check "PolicydRateGuard's port, where nobody listens" finds '1 problem:nobody-listens'
inside_sh "echo SOCKET=127.0.0.1,10033 >> $settings"
check "the port is in the settings, but not served yet" finds '1 advice:settings problem:nobody-listens'
inside systemctl restart policyd-rate-guard.service
check "after a restart both sockets are served, and the port is to be the socket unit's" finds '0 advice:settings'
mend
main_cf "$list = ${ask/policyd,/polycid,}"
check "a slip in the path" finds '1 problem:nobody-listens'
main_cf "$list = ${ask/unix:rateguard\/policyd/inet:127.0.0.1:9998}"
check "another port" finds '1 problem:not-asked'
check "what is asked is named" says inet:127.0.0.1:9998
mend
main_cf smtpd_policy_service_request_limit=1
check "a connection for each request" finds '0 advice:request-limit'
mend

# The sockets
more=/etc/systemd/system/policyd-rate-guard.socket.d
inside_sh "mkdir $more; printf '[Socket]\nListenStream=/var/spool/postfix/private/policyd\n' > $more/more.conf; systemctl daemon-reload"
mend
main_cf "$list = ${ask/rateguard/private}"
check "one more socket of the unit is asked" finds 0
inside_sh "rm -r $more; systemctl daemon-reload"
mend
inside chmod 0700 "$(dirname "$socket")"
check "Postfix may not enter the directory" finds '1 problem:no-permission'
inside chmod 0755 "$(dirname "$socket")"
inside chown root:root "$socket"
check "the socket is root's" finds '1 problem:no-permission'
mend
inside_sh "printf 'USER=www-data\nDB_DATABASE=:memory:\n' >> $settings; chown www-data:www-data $socket"
check "the socket is another user's, who can connect" says 'user postfix may not connect'
mend
inside systemctl stop policyd-rate-guard.socket policyd-rate-guard.service
check "nobody listens" finds '1 problem:nobody-listens'
mend
# Within the 30 seconds after which systemd ends a daemon that hangs.
inside systemctl kill --signal=SIGSTOP policyd-rate-guard.service
check "the daemon hangs" finds '1 problem:no-answer'
inside systemctl kill --signal=SIGCONT policyd-rate-guard.service
check "once it goes on all is well" finds 0

# The settings and the database
inside_sh "echo QUOTA=many >> $settings"
check "a setting that is none" finds '1 problem:settings'
mend
inside_sh "echo 'LIMITS=1M bytes/1h' >> $settings"
check "bytes are limited, and not asked about" finds '1 problem:no-bytes'
mend
inside_sh "echo USER=nobody-of-that-name >> $settings"
check "a user that does not exist" finds '1 problem:settings'
mend
inside_sh "printf 'DB_DRIVER=mysql\nDB_HOST=127.0.0.1\nDB_DATABASE=none\n' >> $settings"
check "the database server is down" finds '1 problem:database'
mend
inside_sh "echo DB_DATABASE=/var/lib/policyd-rate-guard/new.db >> $settings"
check "a database without tables" finds '1 problem:not-migrated'
check "looking makes none" fails inside test -e /var/lib/policyd-rate-guard/new.db
inside runuser -u postfix -- policyd-rate-guard migrate
check "the daemon still counts in the one before" finds '1 problem:other-file'
inside systemctl restart policyd-rate-guard.service
check "after a restart all is well" finds 0
mend
inside_sh "install -d -o postfix -g postfix /srv/guard; echo DB_DATABASE=/srv/guard/guard.db >> $settings
    runuser -u postfix -- policyd-rate-guard migrate; systemctl restart policyd-rate-guard.service"
check "a database that the unit's sandbox keeps from the daemon alone" finds '1 problem:not-counting'
mend
inside rm -r /srv/guard
inside_sh "echo QUOTA_WINDOW=reset >> $settings; systemctl restart policyd-rate-guard.service"
check "the counters are reset each day" finds 0
inside runuser -u postfix -- sqlite3 "$database" "UPDATE meta SET value = value - 27 * 3600 WHERE name IN ('last_reset', 'counting_since')"
check "the last reset was 27 hours ago" finds '1 problem:not-reset'
check "so it says" says '27 hours ago'
inside systemctl start policyd-rate-guard-cleanup.service
check "its job mends that" finds 0
mend

# PolicydRateGuard's files
inside install -m 0644 /dev/stdin /etc/systemd/system/policyd-rate-guard-cleanup.timer < "$e2e/policydrateguard/etc/systemd/system/policyd-rate-guard-cleanup.timer"
check "a unit of PolicydRateGuard" finds '1 problem:predecessor'
check "the package's own report agrees" contains cleanup.timer inside /usr/libexec/policyd-rate-guard/predecessor report
inside_sh 'cp /lib/systemd/system/policyd-rate-guard-cleanup.timer /etc/systemd/system/'
check "a copy of our own unit is none" finds 0
check "the package's own report agrees" prints '' inside /usr/libexec/policyd-rate-guard/predecessor report
inside rm /etc/systemd/system/policyd-rate-guard-cleanup.timer
check "mended again, all is well" finds 0
