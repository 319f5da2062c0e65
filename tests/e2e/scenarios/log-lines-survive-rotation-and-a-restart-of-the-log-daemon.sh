# Lines go on, in the file of their own and in mail.log.

install_deb
let_postfix_ask
log=/var/log/policyd-rate-guard/policyd-rate-guard.log
set_to LOG_FILE=$log
check "a mail passes" accepted test01 1
check "its line is in the log file" eventually 5 inside grep -q test01@example.com $log
check "the log file is Postfix's" prints postfix:postfix inside stat -c %U:%G $log

pid=$(main_pid)
check "logrotate rotates" inside logrotate --force /etc/logrotate.d/policyd-rate-guard
check "the old file is kept" inside grep -q test01@example.com $log.1
check "a mail passes" accepted test02 1
check "its line is in the new file" eventually 5 inside grep -q test02@example.com $log
check "and not in the old one" fails inside grep -q test02@example.com $log.1
check "the daemon was not restarted for it" prints "$pid" main_pid

mark_log
check "rsyslog restarts" inside systemctl restart rsyslog.service
check "a mail passes" accepted test03 1
check "its line is in mail.log" eventually 5 logged test03@example.com
check "all of logrotate's rules go together" inside logrotate --debug /etc/logrotate.conf
