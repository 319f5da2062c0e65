# Its files have our names. The package installs beside them and changes nothing; the printed commands switch over.

query() { inside mysql --batch --skip-column-names policyd-rate-guard --execute "$1"; }

start_predecessor
check "the old program answers" accepted test01 1
old_pid=$(main_pid)

check "the package installs beside it, with nobody to ask" install_deb
inside dpkg --purge $package
install_deb > "$results/install" 2>&1
check "it says what stands in its place" grep -F 'stand in the place' "$results/install"
for file in /etc/systemd/system/policyd-rate-guard{.service,-cleanup.service,-cleanup.timer} /etc/logrotate.d/policyd-rate-guard; do
    check "it names $file" grep -F "    $file" "$results/install"
done
check "the old program runs on, undisturbed" prints "$old_pid" main_pid
check "its timer runs on" active policyd-rate-guard-cleanup.timer
check "our socket is not started" inactive policyd-rate-guard.socket
check "its logrotate rule is untouched" its_logrotate_rule_is_there
mark_log
check "it goes on answering" accepted test01 1
check "not by default_action" prints 0 unanswered

newer=$results/policyd-rate-guard_99.deb
newer_deb "$newer"
check "an upgrade leaves it alone too" install_deb "$newer"
check "the old program runs on" prints "$old_pid" main_pid
check "the package is purged" inside dpkg --purge $package
check "the old program runs on" prints "$old_pid" main_pid
check "its logrotate rule is still there" inside test -f /etc/logrotate.d/policyd-rate-guard
check "its log is still there" inside test -s /var/log/policyd-rate-guard/policyd-rate-guard.log
install_deb > "$results/install" 2>&1

check "the printed commands switch over" switch_over "$results/install"
check "socket, service and timer are ours and active" active $units
check "the service is ours" contains /usr/sbin/policyd-rate-guard property ExecStart
check "the logrotate rule is ours" inside grep -q SIGUSR1 /etc/logrotate.d/policyd-rate-guard
check "the old files are kept" inside test -f /root/PolicydRateGuard/policyd-rate-guard.service
check "the settings are for root and Postfix's group only" prints 'root:postfix 640' inside stat -c '%U:%G %a' "$settings"

mark_log
check "the fifth recipient of five passes" accepted test01 1
check "the sixth is deferred: quota and counters were taken over" deferred test01 1
check "every request was answered, where main.cf asks" prints 0 unanswered
check "the old tables count on" prints '202	402' query "SELECT msg_total, rcpt_total FROM ratelimits WHERE sender = 'test01@example.com'"
check "the log goes on in the old file" inside grep -q test01@example.com /var/log/policyd-rate-guard/policyd-rate-guard.log
let_postfix_ask() { set_main_cf "$(main_cf_lines | tr -d '\n')"; }
let_postfix_ask
mark_log
check "main.cf may then ask the unix socket" deferred test01 1
check "it is answered" prints 0 unanswered

# The database goes away, and comes back.
inside systemctl stop mariadb.service
mark_log
check "without its database mail passes" accepted test02 1
check "but not that of a sender who was over the quota" deferred test01 1
check "it was answered" prints 0 unanswered
inside systemctl start mariadb.service
check "with the database back the quota counts again" eventually 30 deferred test01 1
upgrade_deb "$newer" > "$results/install" 2>&1
check "the next upgrade names nothing any more" fails grep -F 'stand in the place' "$results/install"

# Back again, and without ours for good.
inside_sh "systemctl --quiet disable --now $units
    mv /root/PolicydRateGuard/policyd-rate-guard*.service /root/PolicydRateGuard/*.timer /etc/systemd/system/
    mv /root/PolicydRateGuard/policyd-rate-guard /etc/logrotate.d/
    systemctl daemon-reload
    systemctl --quiet enable --now $old_units"
check "the package is purged" inside dpkg --purge $package
check "the old program's units are enabled" enabled $old_units
check "they run" active $old_units
check "its logrotate rule is there" its_logrotate_rule_is_there
check "its log is still there" inside test -s /var/log/policyd-rate-guard/policyd-rate-guard.log
inside_sh "systemctl --quiet disable --now $old_units; rm -r /etc/systemd/system/policyd-rate-guard* /etc/logrotate.d/policyd-rate-guard"
install_deb
check "once it is gone, ours installs as on a new machine" enabled $units

drop_predecessors_database
