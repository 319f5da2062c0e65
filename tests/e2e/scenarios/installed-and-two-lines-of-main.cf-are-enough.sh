# From nothing to a limited sender: install, add the two lines, done.

check "the package installs with what it depends on" "$rig/apt" install -y "$deb"
check "socket, service and timer are active" active $units
check "socket, service and timer are enabled" enabled $units
check "the settings are for root and Postfix's group only" prints 'root:postfix 640' inside stat -c '%U:%G %a' "$settings"
check "Postfix reaches the socket, others do not" prints 'postfix:postfix 660' inside stat -c '%U:%G %a' "$socket"
check "the socket's directory is root's" prints 'root:root 755' inside stat -c '%U:%G %a' "$(dirname "$socket")"
check "postfix check has nothing to say" prints '' inside postfix check

check "the lines for main.cf are two" prints 2 grep -c . <(main_cf_lines)
let_postfix_ask
mark_log
check "a mail with 3 recipients passes" accepted test01 3
check "it is counted" eventually 5 prints '1 messages, 3 recipients' counted test01@example.com
check "its line is in mail.log" eventually 5 logged test01@example.com
check "a mail without login passes" accepted - 2
check "no row is made for it" prints 1 inside runuser -u postfix -- sqlite3 "$database" 'SELECT count(*) FROM ratelimits'

set_to QUOTA=5
inside runuser -u postfix -- sqlite3 "$database" "UPDATE ratelimits SET quota = 5 WHERE sender = 'test01@example.com'"
check "up to the quota mail passes" accepted test01 2
mark_log
check "over the quota Postfix answers 450" deferred test01 1
check "so the log says" eventually 5 logged test01@example.com
check "another sender is not affected" accepted test02 5
check "every request was answered" prints 0 unanswered

check "the manual pages are there" inside man --where policyd-rate-guard policyd-rate-guard.env
check "the completion for bash loads" inside bash -n "/usr/share/bash-completion/completions/$package"
check "monit takes the example" contains 'Control file syntax OK' inside_sh \
    "cp /usr/share/doc/$package/examples/monit/$package /etc/monit/conf.d/; chmod 600 /etc/monit/conf.d/$package; monit -t; rm /etc/monit/conf.d/$package"
