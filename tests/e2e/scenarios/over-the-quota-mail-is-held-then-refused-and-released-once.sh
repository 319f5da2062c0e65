# policyd's ladder as Postfix carries it out: HOLD, REJECT, WARN, the deny list's HOLD; what is held is found and released.

install_deb
let_postfix_ask
denylist=/etc/policyd-rate-guard/denylist
set_to QUOTA=4 QUOTA_WINDOW=24h 'QUOTA_STEPS=1x HOLD quota exceeded; 2x REJECT max quota exceeded' \
    'LIMITS=5 recipients/message WARN would be too many'

guard() { inside policyd-rate-guard "$@"; }
queued() { inside postqueue -p; }
# The queue ids of what is held, sorted; all of it, or what names an address.
held_ids() {
    inside postqueue -j | grep -F "${1:-}" | awk -F'"' '$2 == "queue_name" && $4 == "hold" { print $8 }' | sort
}
holds() { # MAILS [ADDRESS]
    local ids
    ids=$(held_ids "${2:-}")
    [ "$(grep -c . <<< "$ids")" -eq "$1" ] || { echo "held: $ids"; return 1; }
}
is_empty() { contains 'Mail queue is empty' queued; }
id_of() { grep -oE 'queued as [0-9A-Za-z]+' <<< "$1" | cut -d' ' -f3; }
# Postfix writes a line for each recipient that a mail has reached.
delivered() { # QUEUE-ID RECIPIENTS
    local count
    count=$(logged_by_postfix "$1: to=.*status=sent" | wc -l)
    [ "$count" -eq "$2" ] || { echo "$count of $2 delivered"; return 1; }
}
# What docs/policies.md says to write for what the deny list holds.
documented() { sed -n 's/^\(postqueue -j .*\) | postsuper -H -.*/\1/p' "$project/docs/policies.md" | sed s/alice@/test03@/; }
# Everything that is counted and written down, of everybody.
books() {
    inside runuser -u postfix -- sqlite3 "$database" \
        'SELECT sender, msg_counter, rcpt_counter, msg_total, rcpt_total FROM ratelimits ORDER BY sender;
         SELECT ratelimit_id, sum(messages), sum(recipients) FROM usage GROUP BY ratelimit_id ORDER BY ratelimit_id;
         SELECT count(*) FROM messages'
}

# The ladder
check "up to the quota mail passes" accepted test01 4
check "none of it is held" eventually 10 is_empty
mark_log
check "above the quota the client still sees 250" accepted test01 1
check "so it does up to twice the quota" accepted test01 3
check "both mails wait in the queue" holds 2 test01@example.com
check "postqueue -p marks them as held" grep -cE '^[0-9A-Za-z]+! .*test01@example\.com$' <(queued)
check "the log says why" eventually 5 logged 'sasl_username=test01@example.com.*action=HOLD, reason="1x quota'
refused=$(send test01 1) || :
check "above twice the quota Postfix answers 554" prints '554 5.7.1 <DATA>: Data command rejected: max quota exceeded' echo "$refused"
check "the refused mail is not in the queue" holds 2
check "another sender is not affected" accepted test02 4
reply=$(send test02 1)
check "nor is its held mail" holds 1 test02@example.com
check "every request was answered" prints 0 unanswered

# Released
theirs=$(held_ids test01@example.com)
check "held list names what is held of this sender" diff <(sort <<< "$theirs") <(guard held list test01@example.com | awk 'NR > 1 && $2 ~ /@/ { print $1 }' | sort)
before=$(books)
mark_log
check "it is released" guard held release test01@example.com
check "the queue is run, which Postfix does every five minutes by itself" inside postqueue -f
for id in $theirs; do
    check "$id is delivered" eventually 30 logged_by_postfix "$id: to=.*status=sent"
done
check "only the other sender's mail still waits" prints "$(id_of "$reply")" held_ids
check "what was released is not counted again" diff <(echo "$before") <(books)
check "Postfix asked nothing more" fails logged test01@example.com

# Freed
check "the sender is still over its quota" fails accepted test01 1
check "sender reset" guard sender reset test01@example.com
mark_log
free=$(send test01 1)
check "the very next mail passes" contains 'queued as' echo "$free"
check "and is delivered" eventually 10 delivered "$(id_of "$free")" 1
check "only the other sender's mail is held" holds 1
check "the other sender is still over its quota" accepted test02 1
check "its mail is held" holds 2 test02@example.com

# A limit that only warns
guard sender set test03@example.com --quota unlimited
mark_log
warned=$(send test03 6)
check "a mail over a limit with WARN passes" contains 'queued as' echo "$warned"
check "Postfix writes the text into mail.log" eventually 5 logged_by_postfix 'warn: DATA .*would be too many'
check "our line says what would have been done" eventually 5 logged 'test03@example.com.*status=ACCEPTED.*would="'
check "it is delivered to all six" eventually 10 delivered "$(id_of "$warned")" 6

# The deny list
inside_sh "printf '%s\n' test03@example.com > $denylist; chgrp postfix $denylist"
inside_sh "printf '%s\n' DENYLIST=$denylist 'DENYLIST_ACTION=HOLD denied sender' >> $settings"
inside systemctl reload policyd-rate-guard.service
before=$(books)
mark_log
denied=$(send test03 1)
check "mail of a denied login gets 250" contains 'queued as' echo "$denied"
check "and is held" contains "$(id_of "$denied")" held_ids test03@example.com
check "mail.log has the reason" eventually 5 logged_by_postfix 'hold: DATA .*denied sender'
check "so has our line" eventually 5 logged 'test03@example.com.*action=HOLD'
check "it is not counted" diff <(echo "$before") <(books)
check "the documented command finds it" prints "$(id_of "$denied")" inside_sh "$(documented)"
check "and releases it" inside_sh "$(documented) | postsuper -H -; postqueue -f"
check "it is delivered" eventually 30 delivered "$(id_of "$denied")" 1
check "what quota and limits hold still waits" holds 2 test02@example.com
check "held delete throws it away" guard held delete test02@example.com
check "and nothing is held any more" holds 0
