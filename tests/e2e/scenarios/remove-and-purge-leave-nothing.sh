# Removed: settings and counters stay, nothing runs. Purged: nothing stays. Mail passes all the time.

install_deb
let_postfix_ask
check "a mail passes" accepted test01 2
inside_sh "echo 'QUOTA=7' >> $settings"

check "the package is removed" inside dpkg --remove $package
check "nothing of it runs" inactive $units
check "no process is left" fails inside pgrep --full /usr/sbin/policyd-rate-guard
check "its socket is gone" fails inside test -e "$(dirname "$socket")"
check "the settings are kept" inside grep -q '^QUOTA=7' "$settings"
check "the counters are kept" inside test -s "$database"
mark_log
check "mail passes without it" accepted test01 1
check "by default_action: Postfix got no answer, and says so" eventually 5 at_least 1 unanswered

check "it installs again" install_deb
check "socket, service and timer are active" active $units
check "the settings are those of before" inside grep -q '^QUOTA=7' "$settings"
check "a mail passes" accepted test01 1
check "counting goes on where it was" eventually 5 prints '2 messages, 3 recipients' counted test01@example.com

# What the programs write beside what the package installs.
printf 'dbuser=policyd\ndbpass=secret\ndbname=policyd\ndefaultquota=8\nwhitelist=test03\n' > "$RIG_ROOT/root/policyd.cfg"
inside_sh "sed -i '/^#\? *DB_/d' $settings; echo DB_PASSWORD=secret >> $settings"
check "policyd's settings are imported" inside policyd-rate-guard import policyd --config /root/policyd.cfg --apply
inside rm /root/policyd.cfg
check "the settings of before are kept, password and all" inside grep -q '^DB_PASSWORD=secret' "$settings.before-import"
check "there is a list" inside test -s /etc/policyd-rate-guard/allowlist

check "the package is purged" inside dpkg --purge $package
inside postconf -X smtpd_data_restrictions
check "no file is left" diff "$results/before" <(machine_files)
check "no unit is left" contains '0 loaded units listed' inside systemctl list-units --all 'policyd-rate-guard*'
check "postfix check has nothing to say" prints '' inside postfix check
check "it installs after the purge" install_deb
check "socket, service and timer are active" active $units
