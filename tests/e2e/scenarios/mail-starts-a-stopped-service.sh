# The socket stays when the service is stopped by hand, and the next mail starts it.

install_deb
let_postfix_ask
check "a mail passes" accepted test01 1

inside systemctl stop policyd-rate-guard.service
check "the service is stopped" inactive policyd-rate-guard.service
check "its socket still listens" active policyd-rate-guard.socket
mark_log
check "the next mail passes" accepted test01 1
check "it was answered, not let through" prints 0 unanswered
check "it has started the service" active policyd-rate-guard.service
check "both are counted" eventually 5 prints '2 messages, 2 recipients' counted test01@example.com

# One more socket, as README.Debian has it. systemd would not start the socket beside its running service.
inside_sh "mkdir /run/systemd/system/policyd-rate-guard.socket.d
    printf '[Socket]\nListenStream=/run/more\n' > /run/systemd/system/policyd-rate-guard.socket.d/more.conf
    systemctl daemon-reload"
old_pid=$(main_pid)
check "the socket restarts while the service runs" inside systemctl restart policyd-rate-guard.socket
check "the service has restarted with it" eventually 10 runs_anew "$old_pid"
check "the new socket answers" contains action=DUNNO inside policyd-rate-guard query --dry-run --socket /run/more --sasl-username test01@example.com
inside systemctl stop policyd-rate-guard.service
check "the socket restarts without the service" inside systemctl restart policyd-rate-guard.socket
check "which stays as it was" inactive policyd-rate-guard.service
mark_log
check "the next mail passes" accepted test01 1
check "it was answered" prints 0 unanswered

# A wrong setting: the service cannot start, is tried again for ever, and keeps its socket.
inside_sh "echo 'QUOTA=many' >> $settings"
check "reload with a wrong setting fails" fails inside systemctl reload policyd-rate-guard.service
check "the daemon goes on with the settings it has" accepted test01 1
inside systemctl restart policyd-rate-guard.service || :
inside_sh 'for i in 1 2 3 4 5 6 7; do systemctl start policyd-rate-guard.service || :; done' 2> /dev/null
check "after many failed starts the socket still listens" active policyd-rate-guard.socket
inside sed -i '/^QUOTA=many/d' "$settings"
check "once the setting is right the service comes back by itself" eventually 10 active policyd-rate-guard.service
inside_sh "echo '*@example.com' > /etc/policyd-rate-guard/allowlist
    echo ALLOWLIST=/etc/policyd-rate-guard/allowlist >> $settings"
check "reload with a list that cannot be used fails" fails inside systemctl reload policyd-rate-guard.service
inside sed -i '/^ALLOWLIST=/d' "$settings"
check "reload succeeds" inside systemctl reload policyd-rate-guard.service
mark_log
check "mail passes" accepted test01 1
check "it was answered" prints 0 unanswered

# Where SOCKET= names all that Postfix asks, the socket unit is not needed; the service stops with it, once.
set_to SOCKET=127.0.0.1,10033
set_main_cf 'smtpd_data_restrictions = check_policy_service { inet:127.0.0.1:10033, timeout=5s, default_action=DUNNO }'
check "the socket is disabled and stopped" inside systemctl --quiet disable --now policyd-rate-guard.socket
check "the service has stopped with it" inactive policyd-rate-guard.service
check "the service starts without its socket" inside systemctl start policyd-rate-guard.service
mark_log
check "mail passes" accepted test01 1
check "it was answered by TCP" prints 0 unanswered
check "the socket stays as it was" inactive policyd-rate-guard.socket
