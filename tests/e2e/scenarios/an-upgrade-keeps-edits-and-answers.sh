# A new version takes over while mail comes in; what an administrator changed stays.

install_deb
let_postfix_ask
inside_sh "echo 'QUOTA=4242' >> $settings"
inside sed -i 's/weekly/daily/' /etc/logrotate.d/policyd-rate-guard
check "a mail passes" accepted test01 1
old_pid=$(main_pid)
newer=$results/policyd-rate-guard_99.deb
newer_deb "$newer"

flood_during 0.4 "the upgrade goes through" upgrade_deb "$newer"
check "all are counted" eventually 5 prints '201 messages, 201 recipients' counted test01@example.com
check "the new version runs" runs_anew "$old_pid"
check "the edited settings are kept" inside grep -q '^QUOTA=4242' "$settings"
check "the new ones lie beside them" inside grep -q 'version 99' "$settings.dpkg-dist"
check "the edited logrotate rule is kept" inside grep -q daily /etc/logrotate.d/policyd-rate-guard
check "the settings are still for root and Postfix's group only" prints 'root:postfix 640' inside stat -c '%U:%G %a' "$settings"

# Settings that a reload would refuse, or that the service's user cannot read.
upgrade() { upgrade_deb "$newer" > "$results/upgrade" 2>&1; }
says() { grep -F "$1" "$results/upgrade"; }
old_pid=$(main_pid)
inside cp -p "$settings" /root/settings
inside_sh "echo QUOTA=many >> $settings"
check "with a wrong setting the upgrade goes through" upgrade
check "it says that nothing was restarted" says 'not restarted'
check "what is wrong" says 'QUOTA'
check "and what to do" says '    systemctl restart policyd-rate-guard.service'
check "what ran before runs on" prints "$old_pid" main_pid
inside_sh "cp -p /root/settings $settings; chmod 0600 $settings"
check "with settings that it cannot read it goes through" upgrade
check "it says that nothing was restarted" says 'not restarted'
check "what ran before runs on" prints "$old_pid" main_pid
inside systemctl stop policyd-rate-guard.service
check "it goes through while the service is down" upgrade
check "nothing is said of a restart" fails says 'not restarted'
inside mv /root/settings "$settings"
check "the service was started, and comes up once its settings are right" eventually 10 active policyd-rate-guard.service
old_pid=$(main_pid)
upgrade
check "the next upgrade restarts it" eventually 10 runs_anew "$old_pid"
check "and says nothing" fails says 'not restarted'
old_pid=$(main_pid)
check "what is in the environment of an upgrade" inside env QUOTA=many dpkg --force-confold --install "/root/$(basename -- "$newer")"
check "is none of the service's settings: it restarts" eventually 10 runs_anew "$old_pid"

# Disabled, masked, and without the socket unit: an upgrade changes none of it.
inside systemctl --quiet disable --now policyd-rate-guard-cleanup.timer
inside systemctl --quiet disable --now policyd-rate-guard.socket policyd-rate-guard.service
upgrade_deb "$newer"
check "what was disabled stays disabled" disabled $units
check "what was stopped and disabled stays stopped" inactive $units
inside systemctl --quiet enable --now policyd-rate-guard.socket policyd-rate-guard.service
inside systemctl --quiet mask policyd-rate-guard-cleanup.timer
upgrade_deb "$newer"
check "the masked timer stays masked" prints masked inside systemctl is-enabled policyd-rate-guard-cleanup.timer
check "socket and service run" active policyd-rate-guard.socket policyd-rate-guard.service

inside rm "$settings"
check "lost settings are put back" inside dpkg --force-confmiss --install "/root/$(basename -- "$newer")"
check "for root and Postfix's group only" prints 'root:postfix 640' inside stat -c '%U:%G %a' "$settings"
check "the daemon runs on them" active policyd-rate-guard.service
