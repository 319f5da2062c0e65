# With QUOTA_WINDOW=reset, as PolicydRateGuard counts, the timer's job gives everybody a new day.

install_deb
let_postfix_ask
set_to QUOTA_WINDOW=reset QUOTA=3
check "the timer runs ten seconds after midnight" contains ' 00:00:10 ' property NextElapseUSecRealtime policyd-rate-guard-cleanup.timer
check "a mail of three passes" accepted test01 3
check "the next is deferred" deferred test01 1

check "the timer's service runs" inside systemctl start policyd-rate-guard-cleanup.service
check "the counters are reset" prints '0 messages, 0 recipients' counted test01@example.com
check "a mail of three passes again" accepted test01 3
check "the next is deferred" deferred test01 1

check "a second run on the same day, as from another host" inside systemctl start policyd-rate-guard-cleanup.service
check "resets nothing" prints '2 messages, 4 recipients' counted test01@example.com
check "the next is deferred" deferred test01 1

# The database is away at midnight, and for more than one run.
failures() { inside journalctl --unit policyd-rate-guard-cleanup.service --output cat --no-pager | grep -c 'the database cannot be used' || :; }
check "systemd before 244 takes the job's unit: it asks for no restart" prints no property Restart policyd-rate-guard-cleanup.service
check "no retry is due" inactive policyd-rate-guard-cleanup-retry.timer
check "a failed run is tried again in five minutes" contains '5min' property TimersMonotonic policyd-rate-guard-cleanup-retry.timer
inside_sh "mkdir /run/systemd/system/policyd-rate-guard-cleanup-retry.timer.d
    printf '[Timer]\nOnActiveSec=\nOnActiveSec=3s\nAccuracySec=1ms\n' > /run/systemd/system/policyd-rate-guard-cleanup-retry.timer.d/soon.conf
    systemctl daemon-reload
    cp -p $settings /root/settings
    echo DB_DATABASE=/nowhere/counters.db >> $settings"
inside runuser -u postfix -- sqlite3 "$database" "UPDATE meta SET value = value - 86400 WHERE name = 'last_reset'"
check "without its database the job fails" fails inside systemctl start policyd-rate-guard-cleanup.service
check "a retry is due" active policyd-rate-guard-cleanup-retry.timer
check "one after the other fails" eventually 20 at_least 3 failures
inside mv /root/settings "$settings"
check "with the database back the counters are reset" eventually 20 prints '0 messages, 0 recipients' counted test01@example.com
check "no more is due" eventually 5 inactive policyd-rate-guard-cleanup-retry.timer
check "the job is not failed" fails inside systemctl is-failed policyd-rate-guard-cleanup.service

# Who wants no daily run, and who stops one, gets none five minutes later.
inside_sh "rm -r /run/systemd/system/policyd-rate-guard-cleanup-retry.timer.d
    mkdir /run/systemd/system/policyd-rate-guard-cleanup.service.d
    printf '[Service]\nExecStart=\nExecStart=/bin/false\n' > /run/systemd/system/policyd-rate-guard-cleanup.service.d/other.conf
    systemctl daemon-reload"
check "it fails again" fails inside systemctl start policyd-rate-guard-cleanup.service
check "a retry is due" active policyd-rate-guard-cleanup-retry.timer
inside systemctl stop policyd-rate-guard-cleanup.timer
check "stopping the daily timer stops the retry" inactive policyd-rate-guard-cleanup-retry.timer
check "it fails when started by hand" fails inside systemctl start policyd-rate-guard-cleanup.service
check "without the daily timer no retry is due" inactive policyd-rate-guard-cleanup-retry.timer
inside_sh "sed -i s:/bin/false:/bin/sleep\ 60: /run/systemd/system/policyd-rate-guard-cleanup.service.d/other.conf
    systemctl daemon-reload
    systemctl start policyd-rate-guard-cleanup.timer
    systemctl start --no-block policyd-rate-guard-cleanup.service"
check "it runs" eventually 5 at_least 1 property MainPID policyd-rate-guard-cleanup.service
check "it is stopped" inside systemctl stop policyd-rate-guard-cleanup.service
check "that is no failure" fails inside systemctl is-failed policyd-rate-guard-cleanup.service
check "and no retry is due" inactive policyd-rate-guard-cleanup-retry.timer
