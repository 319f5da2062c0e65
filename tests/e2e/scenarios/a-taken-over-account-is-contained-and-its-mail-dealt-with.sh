# The night of docs/incident.md: an account sends into the held and the deferred queue; one command contains it, one lets its mail go,
# one deletes it. Nobody else's mail is touched, on hold or not.

install_deb
let_postfix_ask
set_to QUOTA=200 QUOTA_WINDOW=24h 'QUOTA_STEPS=1x HOLD quota exceeded; 2x REJECT max quota exceeded'

guard() { inside policyd-rate-guard "$@"; }
# A server that takes no mail yet: what is let through waits in the deferred queue.
inside postconf -e 'default_transport=smtp:[127.0.0.1]:2526'
inside systemctl reload postfix
in_queue() { # QUEUE [ADDRESS]
    inside postqueue -j | grep -F "\"queue_name\": \"$1\"" | grep -cF "\"sender\": \"${2:-test01@example.com}" || :
}
ids_of() { inside postqueue -j | grep -F "\"queue_name\": \"$1\"" | grep -F "\"sender\": \"$2" | awk -F'"' '{ print $8 }' | sort; }
now_ms() { date +%s%3N; }

# The flood: 300 mails, of which the last 100 are over the quota.
"$rig/flood" 300 10 > "$results/flood"
check "300 mails are taken" grep -F '{"codes": {"250": 300}' "$results/flood"
check "200 of them wait in the deferred queue" eventually 60 prints 200 in_queue deferred
check "100 are held by the quota" prints 100 in_queue hold
check "held says so" contains 'test01@example.com   100         100' guard held

# What others have on hold, and what is not this account's.
check "another sender's mail" accepted test02 1
check "waits too" eventually 20 prints 1 in_queue deferred test02@example.com
inside_sh 'printf "Subject: from cron\n\nx\n" | sendmail -f test01@example.com root@example.net'
check "mail that no policy was asked about" eventually 20 prints 201 in_queue deferred
admins=$(send test03 1 | grep -oE 'queued as [0-9A-Za-z]+' | cut -d' ' -f3)
inside postsuper -h "$admins"
check "and a mail that the admin has put on hold" prints "$admins" ids_of hold test03@example.com

# Contained
begin=$(now_ms)
guard sender block test01@example.com --reason compromised --queue 30m > "$results/block"
took=$(($(now_ms) - begin))
echo "contained in $took ms"
check "sender block --queue puts what waits on hold" grep -F 'Put on hold from the queue: 200 messages, 200 recipients' "$results/block"
check "within five seconds" fewer_than 5000 echo "$took"
check "its next mail is held as well" accepted test01 1
check "all that it sent is on hold" prints 301 in_queue hold
check "mail that no policy was asked about is not" prints 1 in_queue deferred
check "nor is another sender's" prints 1 in_queue deferred test02@example.com
inside postqueue -f
check "nothing of it leaves" prints 301 in_queue hold
check "nothing of it is released by the way" contains 'more of accounts that are blocked as compromised' guard held release test01@example.com
check "a second time makes no difference" contains 'Put on hold from the queue: 0 messages' \
    guard sender block test01@example.com --reason compromised --queue 30m

# Undone with one command
check "sender unblock --release lets all of it go" contains '301 messages released' \
    guard sender unblock test01@example.com --release --even-compromised
check "nothing of it is on hold" prints 0 in_queue hold
check "the admin's mail is" prints "$admins" ids_of hold test03@example.com

# And deleted
guard sender block test01@example.com --reason compromised --queue 30m > "$results/block"
check "blocked again, all of it is on hold again" eventually 10 prints 301 in_queue hold
# An id that another mail has got since: the row says so by its time.
reused=$(ids_of hold test01@example.com | head -n 1)
inside runuser -u postfix -- sqlite3 "$database" "UPDATE messages SET created_at = datetime(created_at, '-1 day') WHERE msgid = '$reused'"
check "sender unblock --delete deletes it" contains '300 messages deleted' guard sender unblock test01@example.com --delete
check "but for the id that is another mail's now" prints "$reused" ids_of hold test01@example.com
check "the admin's mail is still there" prints "$admins" ids_of hold test03@example.com
check "and another sender's" prints 1 in_queue deferred test02@example.com

# While it sends, with a server behind that takes its mail: when the last of it came there says when it was contained.
sink=/var/tmp/sink
inside install -d -o postfix $sink
inside systemd-run --quiet --unit=sink.service smtp-sink -u postfix -d $sink/mail. 127.0.0.1:2527 100
# Whoever is told of the block writes down when.
# shellcheck disable=SC2016  # the shell inside
inside systemd-run --quiet --unit=hook.service python3 -c 'import http.server, time
class Hook(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        with open("/var/tmp/sink/told", "a") as told: told.write(f"{time.time() * 1000:.0f} {body}\n")
        self.send_response(200)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", 2528), Hook).serve_forever()'
set_to WEBHOOK_ENABLED=True WEBHOOK_URL=http://127.0.0.1:2528/
inside postconf -e 'default_transport=smtp:[127.0.0.1]:2527'
inside systemctl reload postfix
guard sender reset test01@example.com
held_before=$(in_queue hold)
arrived() { inside_sh "grep -l 'X-Mail-Args: <test01@example.com>' $sink/mail.* || :"; }
how_many_arrived() { arrived | wc -l; }
"$rig/flood" 300 4 0.25 > "$results/flood" &
flood=$!
check "its mail leaves" eventually 30 at_least 20 how_many_arrived
begin=$(now_ms)
guard sender block test01@example.com --reason compromised --queue 30m
wait $flood
took=$(($(now_ms) - begin))
check "it sends on, and its mail is taken" grep -F '{"codes": {"250": 300}' "$results/flood"
check "for longer than it takes to contain it" at_least 5000 echo $took
last=$(arrived | inside xargs stat -c %.3Y | sort | tail -n 1 | tr -d .)
echo "the last mail left $((last - begin)) ms after the command began, of $took ms"
check "some of it left" at_least 20 how_many_arrived
check "within five seconds no further mail leaves, as the server behind has it" fewer_than 5000 echo $((last - begin))
check "what did not leave is on hold" prints $((300 + held_before)) echo $(($(how_many_arrived) + $(in_queue hold)))
# The blocks of before are told too, now that somebody wants to know.
told=$(inside grep -F '"event":"blocked"' $sink/told | tail -n 1 | cut -d' ' -f1)
check "the webhook has come" at_least 0 echo $((told - begin))
check "within five seconds too" fewer_than 5000 echo $((told - begin))
guard sender unblock test01@example.com
inside systemctl stop sink.service hook.service
inside rm -r $sink
inside postconf -e 'default_transport=smtp:[127.0.0.1]:2526'
inside systemctl reload postfix

# By itself, with HELD=release
set_to HELD=release QUOTA=1
guard sender set test02@example.com --quota 1
check "over its quota a sender's mail is held" accepted test02 1
check "as held says" contains 'test02@example.com' guard held
check "the timer is not enabled by itself" disabled policyd-rate-guard-held.timer
inside systemctl start policyd-rate-guard-held.service
check "without room nothing goes" prints 1 in_queue hold test02@example.com
guard sender reset test02@example.com
# Five minutes after the machine's start, if that was less ago.
inside_sh 'install -d /run/systemd/system/policyd-rate-guard-held.timer.d
    printf "[Timer]\nOnActiveSec=1s\n" > /run/systemd/system/policyd-rate-guard-held.timer.d/test.conf'
inside systemctl daemon-reload
inside systemctl --quiet enable --now policyd-rate-guard-held.timer
check "with room it goes by the timer" eventually 60 prints 0 in_queue hold test02@example.com
check "which comes again in five minutes" contains 'policyd-rate-guard-held.timer' inside systemctl list-timers
inside systemctl --quiet disable --now policyd-rate-guard-held.timer
check "and is counted again" prints '1 messages, 1 recipients' counted test02@example.com

inside postconf -e default_transport=discard:
inside systemctl reload postfix
