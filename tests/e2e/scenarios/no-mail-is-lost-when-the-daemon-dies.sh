# Killed, hung, restarted or without its database: no mail is refused because of it, and none passes unasked.

install_deb
let_postfix_ask
set_to QUOTA=100000
restarts() { property NRestarts; }

# kill -9 between and during mails
check "a mail passes" accepted test01 1
mark_log
pid=$(main_pid)
inside systemctl kill --signal=SIGKILL policyd-rate-guard.service
check "after kill -9 the next mail passes" accepted test01 1
check "it was answered" prints 0 unanswered
check "the service is up again" eventually 5 runs_anew "$pid"

pid=$(main_pid)
flood_during 0.2 "a restart" inside systemctl restart policyd-rate-guard.service
check "it is another process" runs_anew "$pid"

pid=$(main_pid)
flood_during 0.2 "kill -9" inside systemctl kill --signal=SIGKILL policyd-rate-guard.service
check "it is another process" eventually 5 runs_anew "$pid"
# One mail of each connection may have been counted before the kill, its answer lost, and counted again on the retry.
within_a_few() {
    local got
    got=$(counted test01@example.com)
    echo "$got"
    [ "${got%% *}" -ge 402 ] && [ "${got%% *}" -le 412 ]
}
check "all are counted, none of them twice but what was in flight" eventually 5 within_a_few

# Hung: systemd's watchdog ends it. 3 seconds instead of 30, for the sake of the test.
inside_sh 'mkdir -p /run/systemd/system/policyd-rate-guard.service.d
    printf "[Service]\nWatchdogSec=3s\n" > /run/systemd/system/policyd-rate-guard.service.d/watchdog.conf
    systemctl daemon-reload; systemctl restart policyd-rate-guard.service'
check "a mail passes" accepted test01 1
before=$(restarts)
sleep 4
check "the watchdog leaves a healthy daemon alone" prints "$before" restarts
mark_log
inside systemctl kill --signal=SIGSTOP policyd-rate-guard.service
check "a mail to the hung daemon passes" accepted test01 1
check "it was answered" prints 0 unanswered
check "the watchdog has restarted the daemon" prints $((before + 1)) restarts
