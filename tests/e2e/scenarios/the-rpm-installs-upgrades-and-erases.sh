# The .rpm by Debian's rpm, its scriptlets against a real systemd. What RHEL adds (dnf, SELinux) is not here.

check "it names what it depends on" contains postfix rpm --query --package --requires "$rpm"
check "it installs" install_rpm
check "rpm finds every file as it should be" prints '' inside rpm --verify --nodeps $package
check "socket, service and timer are active" active $units
check "socket, service and timer are enabled" enabled $units
check "the settings are for root and Postfix's group only" prints 'root:postfix 640' inside stat -c '%U:%G %a' "$settings"
let_postfix_ask
mark_log
check "a mail with 3 recipients passes" accepted test01 3
check "it is counted" eventually 5 prints '1 messages, 3 recipients' counted test01@example.com
check "it was answered" prints 0 unanswered

inside_sh "echo 'QUOTA=4242' >> $settings"
old_pid=$(main_pid)
newer=$results/policyd-rate-guard-99.rpm
newer_rpm "$newer" > "$results/rpmbuild" 2>&1 || cat "$results/rpmbuild"
flood_during 0.4 "it upgrades" install_rpm "$newer"
check "all are counted" eventually 5 prints '201 messages, 203 recipients' counted test01@example.com
check "the new version runs" runs_anew "$old_pid"
check "socket, service and timer are active" active $units
check "the edited settings are kept" inside grep -q '^QUOTA=4242' "$settings"
check "the new ones lie beside them" inside grep -q 'version 99' "$settings.rpmnew"
check "the new ones are not for everybody either" prints 'root:postfix 640' inside stat -c '%U:%G %a' "$settings.rpmnew"

# Settings that a reload would refuse.
upgrade() { inside rpm --upgrade --nodeps --replacepkgs "/root/$(basename -- "$newer")" > "$results/upgrade" 2>&1; }
old_pid=$(main_pid)
inside_sh "echo 'QUOTA=many' >> $settings"
check "with a wrong setting the upgrade goes through" upgrade
check "it says that nothing was restarted" grep -F 'not restarted' "$results/upgrade"
check "what ran before runs on" prints "$old_pid" main_pid
inside sed -i '/^QUOTA=many/d' "$settings"
check "with it mended the upgrade goes through" upgrade
check "the new version runs" eventually 10 runs_anew "$old_pid"

check "it is erased" inside rpm --erase $package
check "nothing of it runs" inactive $units
check "no process is left" fails inside pgrep --full /usr/sbin/policyd-rate-guard
check "its socket is gone" fails inside test -e "$(dirname "$socket")"
check "the edited settings are kept" inside grep -q '^QUOTA=4242' "$settings.rpmsave"
check "the counters are kept" inside test -s "$database"
check "mail passes without it" accepted test01 1

# Over PolicydRateGuard
inside rm "$settings.rpmsave"
start_predecessor
old_pid=$(main_pid)
check "beside PolicydRateGuard it says what shadows" contains '    /etc/systemd/system/policyd-rate-guard.service' install_rpm
check "the old program runs on" prints "$old_pid" main_pid
check "our socket is not started" inactive policyd-rate-guard.socket
check "its logrotate rule is untouched" its_logrotate_rule_is_there
check "it is erased" inside rpm --erase $package
check "the old program runs on" prints "$old_pid" main_pid
install_rpm > "$results/install" 2>&1
check "the printed commands switch over" switch_over "$results/install"
check "socket, service and timer are ours and active" active $units
check "the service is ours" contains /usr/sbin/policyd-rate-guard property ExecStart
check "the logrotate rule is ours" inside grep -q SIGUSR1 /etc/logrotate.d/policyd-rate-guard
check "nothing lies beside it" fails inside test -e /etc/logrotate.d/policyd-rate-guard.rpmnew
mark_log
check "the fifth recipient of five passes" accepted test01 1
check "the sixth is deferred: quota and counters were taken over" deferred test01 1
check "every request was answered, where main.cf asks" prints 0 unanswered
drop_predecessors_database
