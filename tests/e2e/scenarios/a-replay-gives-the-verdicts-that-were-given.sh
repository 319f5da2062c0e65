# Mail through Postfix under one policy; then its log, run through the same policy, gives the same verdicts.

install_deb
let_postfix_ask
set_to QUOTA=5 QUOTA_WINDOW=24h 'QUOTA_STEPS=1x HOLD quota exceeded; 2x REJECT max quota exceeded' \
    'LIMITS=4 recipients/message DEFER too many at once'
mark_log

# test01 climbs the whole ladder, test02 stays below it, test03 sends too much at once.
check "three pass" accepted test01 3
check "two more pass, the quota is full" accepted test01 2
check "above it mail is held" accepted test01 4
check "above twice the quota it is rejected" contains '554 5.7.1' send test01 2
check "what fits below twice the quota is held" accepted test01 1
check "another sender passes" accepted test02 4
check "too many at once is deferred" deferred test03 5
check "fewer pass" accepted test03 1
check "mail without login passes" accepted - 2
check "all is in the log" eventually 5 logged 'sasl_username=test03@example.com.*recipient_count=1'
check "and that Postfix has what passed" eventually 5 prints 5 eval 'since_mark | grep -c "queue active"'

# said FILE: the verdicts in a log, without what stands before the queue id and what a replay does not know.
said() { sed -nE 's/^.* ([0-9A-Za-z]+: client=[^ ]+) helo=[^ ]+ sasl_method=[^ ]* (.*)$/\1 \2/p' "$1"; }
replayed() { inside policyd-rate-guard replay --each "$@" > "$results/replayed" 2> /dev/null && said "$results/replayed"; }

since_mark > "$RIG_ROOT/root/mail.log"
live=$(grep -E 'policyd-rate-guard\[[0-9]+\]: ' "$RIG_ROOT/root/mail.log" > "$results/live" && said "$results/live")
check "the daemon gave eight verdicts" prints 8 grep -c 'status=' <<< "$live"
check "four of them held or refused" prints 4 grep -c 'status=BLOCKED' <<< "$live"
check "of mail.log come the verdicts that were given" prints "$live" replayed /root/mail.log
check "so they do of the packed log" prints "$live" eval \
    'gzip --keep "$RIG_ROOT/root/mail.log" && replayed /root/mail.log.gz'

# Postfix's lines alone do not tell how many recipients a held or refused message had, and each counts as one.
grep -v 'policyd-rate-guard\[' "$RIG_ROOT/root/mail.log" > "$RIG_ROOT/root/postfix.log"
report=$(inside policyd-rate-guard replay --json /root/postfix.log)
sum() { python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1" <<< "$report"; }
check "Postfix's lines alone tell of each message" prints 8 sum messages
check "of the mail without login" prints 1 sum without_login
check "and that four had recipients that are not in the log" prints 4 sum recipients_unknown
check "test01's messages are five" contains '"messages": 5' python3 -c '
import json, sys
for sender in json.load(sys.stdin)["top"]:
    if sender["sender"] == "test01@example.com": print(json.dumps(sender))' <<< "$report"
check "what passed then passes again, as far as the recipients are known" prints 3 eval \
    'inside policyd-rate-guard replay --each /root/postfix.log 2> /dev/null | grep -c "test0[123]@example.com.*recipient_count=[342].*status=ACCEPTED"'

rm "$RIG_ROOT/root/mail.log" "$RIG_ROOT/root/mail.log.gz" "$RIG_ROOT/root/postfix.log"
