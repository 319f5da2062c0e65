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
