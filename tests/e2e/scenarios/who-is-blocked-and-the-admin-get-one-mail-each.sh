# NOTIFY_MAIL_TO and NOTIFY_SENDER through Postfix into real mailboxes: once, with the right headers, and not counted.

mailboxes=/var/mail/rateguard
install_deb
inside cp -p /etc/postfix/main.cf /root/main.cf.before
trap 'inside mv /root/main.cf.before /etc/postfix/main.cf; inside rm -rf "$mailboxes"' EXIT
let_postfix_ask
inside install -d -o mail -g mail -m 0755 $mailboxes
inside postconf -e 'virtual_mailbox_domains = example.com' "virtual_mailbox_base = $mailboxes" 'virtual_minimum_uid = 1' \
    "virtual_uid_maps = static:$(inside id -u mail)" "virtual_gid_maps = static:$(inside id -g mail)" \
    'virtual_mailbox_maps = inline:{ { postmaster@example.com = admin }, { test01@example.com = test01 }, { test02@example.com = test02 } }'
inside systemctl reload postfix
# Strangers would be counted too, by their envelope sender: ours is null.
set_to QUOTA=2 QUOTA_WINDOW=24h LIMIT_BY=sasl_username,sender NOTIFY_MAIL_TO=postmaster@example.com NOTIFY_SENDER=True \
    NOTIFY_MAIL_SERVER=127.0.0.1:10025

mails() { # MAILBOX COUNT
    local count
    count=$(inside grep -c '^From ' "$mailboxes/$1") || :
    [ "${count:-0}" -eq "$2" ] || { echo "$1: $count mails"; return 1; }
}
# The headers of a mailbox's first mail as a mail program reads them; or its text.
header() { inside cat "$mailboxes/$1" | python3 -c 'import email, sys
message = email.message_from_file(sys.stdin)
print(*message.get_all(sys.argv[1], ["none"]), sep="\n")' "$2"; }
text() { inside cat "$mailboxes/$1"; }
books() {
    inside runuser -u postfix -- sqlite3 "$database" \
        'SELECT sender, msg_counter, rcpt_counter, msg_total, rcpt_total FROM ratelimits ORDER BY sender; SELECT count(*) FROM messages'
}
refused() { local i; for ((i = 0; i < $2; i++)); do deferred "$1" 1 || return 1; done; }

mark_log
check "up to the quota nobody is told" accepted test01 2
check "eight mails over it are refused" refused test01 8
check "the admin is told" eventually 20 mails admin 1
check "the sender is told" eventually 20 mails test01 1
check "both came through Postfix" prints 2 grep -c 'from=<>.*queue active' <(since_mark)

check "nothing will answer it" prints auto-generated header admin Auto-Submitted
check "its envelope sender is null" prints '<>' header admin Return-Path
check "it is for the admin" prints postmaster@example.com header admin To
check "it is from us" prints 'policyd-rate-guard <postmaster@example.com>' header admin From
check "its subject says who and what" prints 'test01@example.com: the quota is reached' header admin Subject
check "it has one Message-ID, of the domain it is from" grep -xE '<[0-9a-f.]+@example\.com>' <(header admin Message-ID)
is_recent() { local age=$(($(date +%s) - $(date -d "$1" +%s))); echo "$age s old"; [ $age -ge 0 ] && [ $age -lt 120 ]; }
check "its Date is now" is_recent "$(header admin Date)"
check "it says how much was sent" contains '3 of 2 are used.' text admin
check "it says what to do" contains 'policyd-rate-guard sender show' text admin
check "the sender's is for the sender" prints test01@example.com header test01 To
check "its envelope sender is null" prints '<>' header test01 Return-Path
check "nothing will answer it" prints auto-generated header test01 Auto-Submitted
check "its subject is for a person" prints 'Your mail account: the quota is reached' header test01 Subject

# A second sender's mails come after all that was still on its way about the first.
inside systemctl restart policyd-rate-guard.service
check "after a restart more is refused" refused test01 3
check "another sender is blocked" contains 'queued as' send test02 2
check "and refused" refused test02 3
check "the admin is told of the other one" eventually 20 mails admin 2
check "the other one is told" eventually 20 mails test02 1
check "the first one heard it once" mails test01 1
check "every request was answered" prints 0 unanswered
check "what the two sent is counted, and nothing of ours" prints "$(printf '%s\n' 'test01@example.com|12|13|12|13' 'test02@example.com|4|5|4|5' 16)" books
