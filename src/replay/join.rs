//! Joins the lines that tell of one message, and puts all messages in the order of their times. Pure.
//!
//! Postfix logs several lines for a message, which share its queue id; a policy daemon logs one. If both did, the daemon's line
//! counts: it has what was asked, and when. policyd logs no queue id; its line belongs to the newest message of the same login
//! and client for which no daemon's line was read. Behind a before-queue filter a message has no queue id until the filter
//! hands it on; until then it is found by its client's address, the oldest first.
//!
//! Lines may be late: a message is returned `GRACE` after its time, and an incomplete one after `TIMEOUT`. Both are measured
//! in the log's time.

use std::collections::{BTreeMap, VecDeque};
use std::hash::Hash;
use std::num::NonZeroUsize;

use lru::LruCache;

use super::PastRequest;
use super::decisions::Decided;
use super::line::{Content, Line};
use super::postfix::Event;
use super::stamp::Milliseconds;

/// Lines of the same moment come in any order, and syslog cuts times to the second.
const GRACE: Milliseconds = 5_000;
/// How long the rest of a message is waited for after its first line.
const TIMEOUT: Milliseconds = 60 * 60 * 1000;
/// If a message begins twice under one queue id within this time, the line was read twice.
const TWICE: Milliseconds = 60_000;
/// How long the rest of a message is waited for after a request at its first recipient, which has no queue id.
const FIRST_RECIPIENT: Milliseconds = 5 * 60 * 1000;
/// The most incomplete messages at once; beyond it the oldest is returned as it is.
pub const MAX_OPEN: usize = 100_000;
/// The most queue ids that are remembered at once.
const MAX_IDS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(200_000);
/// The most clients whose incomplete messages are remembered.
const MAX_CLIENTS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(10_000);
/// The most incomplete messages of one client.
const MAX_OF_CLIENT: usize = 32;

/// How many messages there were, and of how many the log does not tell everything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Gaps {
    /// A client with a login began them and never sent the content.
    pub unfinished: u64,
    /// Sent, and returned.
    pub sent: u64,
    /// Sent, to an unknown number of recipients.
    pub uncounted: u64,
}

/// Joins lines to messages.
#[derive(Debug)]
pub struct Joiner {
    /// By time, then in the order of the lines.
    messages: BTreeMap<Place, Message>,
    ids: LruCache<String, Known>,
    clients: LruCache<Client, VecDeque<String>>,
    first_recipients: LruCache<Client, (Milliseconds, String)>,
    /// Messages in before-queue filters, by the client's address.
    filtered: LruCache<String, VecDeque<Filtered>>,
    /// The latest time of any line.
    latest: Milliseconds,
    lines: u64,
    ended: bool,
    wants_size: bool,
    pub gaps: Gaps,
}

type Place = (Milliseconds, u64);
/// Login as policyd cuts it, and address.
type Client = (String, String);

#[derive(Debug)]
struct Message {
    asked: PastRequest,
    /// Whether it is certain that Postfix asked about it.
    sent: bool,
    /// Whether the number of recipients is known.
    counted: bool,
    /// Whether no more lines are expected.
    whole: bool,
}

/// The message of a queue id.
#[derive(Debug)]
struct Known {
    message: String,
    began: Milliseconds,
    /// Its place in `messages`, while more lines are expected.
    place: Option<Place>,
    /// Whether a daemon's line was read for it.
    told: bool,
    removed: bool,
}

/// A message in a before-queue filter.
#[derive(Debug)]
struct Filtered {
    /// Its queue id, or until it is handed on a name that is none.
    id: String,
    handed_on: bool,
}

impl Joiner {
    /// `wants_size` says whether the sizes of messages are needed, which only Postfix logs.
    pub fn new(wants_size: bool) -> Joiner {
        Joiner {
            messages: BTreeMap::new(),
            ids: LruCache::new(MAX_IDS),
            clients: LruCache::new(MAX_CLIENTS),
            first_recipients: LruCache::new(MAX_CLIENTS),
            filtered: LruCache::new(MAX_CLIENTS),
            latest: Milliseconds::MIN,
            lines: 0,
            ended: false,
            wants_size,
            gaps: Gaps::default(),
        }
    }

    /// Reads the next line.
    pub fn take(&mut self, line: Line) {
        self.lines += 1;
        // After the clock was set back, lines are not late.
        let set_back = self.latest.saturating_sub(line.at) >= TIMEOUT;
        self.latest = if set_back { line.at } else { self.latest.max(line.at) };
        match line.content {
            Content::Postfix(told) => self.take_postfix(told, line.at),
            Content::Decided(decided) => self.take_decided(decided, line.at),
            Content::Policyd(asked) => self.take_policyd(asked, line.at),
            Content::Dropped | Content::Other => {}
        }
    }

    /// Says that no more lines come.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// Returns the next message for which no more lines are expected, and its time in Unix seconds.
    pub fn next_message(&mut self) -> Option<(i64, PastRequest)> {
        loop {
            let entry = self.messages.first_entry()?;
            let (at, _) = *entry.key();
            let age = self.latest.saturating_sub(at);
            let due = age >= TIMEOUT || entry.get().whole && age >= GRACE;
            if !due && !self.ended && self.messages.len() <= MAX_OPEN {
                return None;
            }
            let (_, message) = self.messages.pop_first()?;
            if !message.sent {
                // Servers that only try an address leave many without a login.
                self.gaps.unfinished += u64::from(!message.asked.login.is_empty());
                continue;
            }
            self.gaps.sent += 1;
            self.gaps.uncounted += u64::from(!message.counted);
            return Some((at.div_euclid(1000), message.asked));
        }
    }

    fn take_postfix(&mut self, told: Event, at: Milliseconds) {
        match told {
            Event::Client { id, name, address, login } => {
                if self.ids.get(&id).is_some_and(|known| !known.removed && at.saturating_sub(known.began) <= TWICE) {
                    return;
                }
                if let Some(message) = self.first_recipient(&login, &address, at) {
                    self.ids.put(id, Known { message, began: at, place: None, told: true, removed: false });
                    return;
                }
                let asked = PastRequest {
                    queue_id: id.clone(),
                    login,
                    client_name: name,
                    client_address: address,
                    ..PastRequest::default()
                };
                self.begin(id, asked, at);
            }
            Event::Filtered { name, address, login } => {
                if self.first_recipient(&login, &address, at).is_some() {
                    return;
                }
                let id = self.new_message("NOQUEUE");
                push_bounded(&mut self.filtered, address.clone(), Filtered { id: id.clone(), handed_on: false });
                let asked = PastRequest { login, client_name: name, client_address: address, ..PastRequest::default() };
                self.begin(id, asked, at);
            }
            Event::HandedOn { id, address } => {
                let waiting = self.filtered.get_mut(&address);
                let Some(filtered) = waiting.and_then(|all| all.iter_mut().find(|one| !one.handed_on)) else { return };
                filtered.handed_on = true;
                let name = std::mem::replace(&mut filtered.id, id.clone());
                let Some(known) = self.ids.pop(&name) else { return };
                if let Some(message) = known.place.and_then(|place| self.messages.get_mut(&place)) {
                    message.asked.queue_id.clone_from(&id);
                    push_bounded(&mut self.clients, client(&message.asked.login, &address), id.clone());
                }
                self.ids.put(id, known);
            }
            Event::Answered { address, from, to, accepted } => {
                let Some(waiting) = self.filtered.get_mut(&address) else { return };
                let answered = waiting.iter().position(|one| one.handed_on).unwrap_or(0);
                // For a message that was handed on there are lines with its queue id.
                if let Some(Filtered { id, handed_on: false }) = waiting.remove(answered) {
                    self.sent(&id, from, to, true, at);
                    if let Some((message, false)) = self.open(&id, at) {
                        message.asked.stopped = !accepted;
                    }
                }
            }
            Event::Sent { id, from, to, refused } => self.sent(&id, from, to, refused, at),
            Event::Active { id, from, size, recipients } => {
                if let Some((message, told)) = self.open(&id, at) {
                    message.asked.size = size;
                    message.whole = true;
                    if !told {
                        message.sent = true;
                        message.counted = true;
                        message.asked.stopped = false;
                        message.asked.from = from;
                        message.asked.recipients = Some(recipients);
                    }
                }
            }
            Event::Removed { id } => {
                if let Some(known) = self.ids.get_mut(&id) {
                    known.removed = true;
                }
            }
            Event::Nothing => {}
        }
    }

    /// Begins a message under its queue id, or a name in its place.
    fn begin(&mut self, id: String, asked: PastRequest, at: Milliseconds) {
        let message = self.new_message(&id);
        push_bounded(&mut self.clients, client(&asked.login, &asked.client_address), id.clone());
        let asked = PastRequest { message: message.clone(), recipients: Some(1), stopped: true, ..asked };
        let place = self.put(at, Message { asked, sent: false, counted: false, whole: false });
        self.ids.put(id, Known { message, began: at, place: Some(place), told: false, removed: false });
    }

    fn sent(&mut self, id: &str, from: String, to: String, refused: bool, at: Milliseconds) {
        if let Some((message, false)) = self.open(id, at) {
            message.sent = true;
            message.whole |= refused;
            for (known, told) in [(&mut message.asked.from, from), (&mut message.asked.to, to)] {
                if !told.is_empty() {
                    *known = told;
                }
            }
        }
    }

    fn take_decided(&mut self, Decided { mut queue_id, mut asked }: Decided, at: Milliseconds) {
        let at_rcpt = asked.recipients.is_none();
        asked.queue_id.clone_from(&queue_id);
        if queue_id.is_empty() && !at_rcpt {
            queue_id = self.undecided(&asked.client_address).unwrap_or_default();
        }
        if queue_id.is_empty() {
            if at_rcpt {
                asked.message = self.new_message("NOQUEUE");
                let client = (asked.login.to_lowercase(), asked.client_address.clone());
                self.first_recipients.put(client, (at, asked.message.clone()));
            }
            self.put(at, Message::told(asked));
            return;
        }
        let mut whole = true;
        match self.ids.get_mut(&queue_id) {
            Some(known) => {
                asked.message.clone_from(&known.message);
                let first = !known.told;
                known.told = true;
                // Of Postfix's lines at most the size is still needed.
                let place = known.place.take();
                if let Some(known) = place.and_then(|place| self.messages.remove(&place)) {
                    asked.size = known.asked.size;
                    whole = known.whole || !self.wants_size;
                    if !first {
                        // A second request for the same message: both are returned.
                        let sent = Message { whole: true, ..known };
                        if let Some(place) = place {
                            self.messages.insert(place, sent);
                        }
                    }
                }
            }
            None => {
                let first = at_rcpt.then(|| self.first_recipient(&asked.login, &asked.client_address, at)).flatten();
                asked.message = first.unwrap_or_else(|| self.new_message(&queue_id));
                let known =
                    Known { message: asked.message.clone(), began: at, place: None, told: true, removed: false };
                self.ids.put(queue_id.clone(), known);
            }
        }
        let place = self.put(at, Message { whole, ..Message::told(asked) });
        if !whole && let Some(known) = self.ids.get_mut(&queue_id) {
            known.place = Some(place);
        }
    }

    fn take_policyd(&mut self, mut asked: PastRequest, at: Milliseconds) {
        let mut whole = true;
        let mut found = None;
        if let Some(ids) = self.clients.get_mut(&client(&asked.login, &asked.client_address)) {
            // The newest: an older one that is still incomplete was given up by its client.
            while let Some(id) = ids.pop_back() {
                let Some(known) = self.ids.get_mut(&id).filter(|known| !known.told) else { continue };
                let Some(message) = known.place.take().and_then(|place| self.messages.remove(&place)) else { continue };
                known.told = true;
                whole = message.whole || !self.wants_size;
                // policyd cuts logins.
                let PastRequest { from, recipients, stopped, .. } = asked;
                asked = PastRequest { from, recipients, stopped, ..message.asked };
                found = Some(id);
                break;
            }
        }
        let place = self.put(at, Message { whole, ..Message::told(asked) });
        if !whole && let Some(known) = found.and_then(|id| self.ids.get_mut(&id)) {
            known.place = Some(place);
        }
    }

    fn put(&mut self, at: Milliseconds, message: Message) -> Place {
        let place = (at, self.lines);
        self.messages.insert(place, message);
        place
    }

    /// Returns the incomplete message of a queue id, and whether a daemon's line was read for it.
    fn open(&mut self, id: &str, at: Milliseconds) -> Option<(&mut Message, bool)> {
        let known = self.ids.get(id)?;
        let (told, place) = (known.told, known.place?);
        let in_time = at.saturating_sub(place.0) < TIMEOUT;
        self.messages.get_mut(&place).filter(|_| in_time).map(|message| (message, told))
    }

    /// Returns the name of this client's oldest message in a before-queue filter for which no daemon's line was read.
    fn undecided(&mut self, address: &str) -> Option<String> {
        let waiting = self.filtered.get(address)?;
        waiting.iter().find(|one| self.ids.peek(&one.id).is_some_and(|known| !known.told)).map(|one| one.id.clone())
    }

    /// Returns the message of this client whose first recipient was asked about a short while ago, before it had a queue id.
    fn first_recipient(&mut self, login: &str, address: &str, at: Milliseconds) -> Option<String> {
        let (asked_at, message) = self.first_recipients.pop(&(login.to_lowercase(), address.to_owned()))?;
        (at.saturating_sub(asked_at) <= FIRST_RECIPIENT).then_some(message)
    }

    /// Returns a name for a message. Queue ids alone are used again.
    fn new_message(&self, id: &str) -> String {
        format!("{id}.{}", self.lines)
    }
}

impl Message {
    /// A message as a daemon's line has it.
    fn told(asked: PastRequest) -> Message {
        Message { asked, sent: true, counted: true, whole: true }
    }
}

/// Appends to one of the queues. If it is full, its first item is dropped.
fn push_bounded<K: Hash + Eq, V>(queues: &mut LruCache<K, VecDeque<V>>, key: K, value: V) {
    let queue = queues.get_or_insert_mut(key, VecDeque::new);
    if queue.len() == MAX_OF_CLIENT {
        queue.pop_front();
    }
    queue.push_back(value);
}

fn client(login: &str, address: &str) -> Client {
    let (user, _) = login.split_once('@').unwrap_or((login, ""));
    (user.to_lowercase(), address.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::line;
    use crate::replay::stamp::Stamps;
    use jiff::tz::TimeZone;
    use proptest::prelude::*;

    fn joined_with(lines: &str, wants_size: bool) -> (Vec<(i64, PastRequest)>, Gaps) {
        let mut stamps = Stamps::new(TimeZone::UTC, 1_795_300_000);
        let mut joiner = Joiner::new(wants_size);
        let mut messages = Vec::new();
        for line in lines.lines() {
            let Ok(line) = line::read(&mut stamps, line.trim_start()) else { panic!("{line}") };
            joiner.take(line);
            messages.extend(std::iter::from_fn(|| joiner.next_message()));
        }
        joiner.end();
        messages.extend(std::iter::from_fn(|| joiner.next_message()));
        (messages, joiner.gaps)
    }

    /// Time of day, login, recipients.
    fn joined(lines: &str) -> Vec<(i64, String, Option<u32>)> {
        let (messages, _) = joined_with(lines, false);
        messages.into_iter().map(|(at, asked)| (at % 86_400, asked.login, asked.recipients)).collect()
    }

    fn told(at: i64, login: &str, recipients: u32) -> (i64, String, Option<u32>) {
        (at, login.to_owned(), Some(recipients))
    }

    const POSTFIX: &str = "\
        Nov 21 08:00:00 mx postfix/submission/smtpd[1]: 4Xy01: client=x[192.0.2.7], sasl_method=PLAIN, sasl_username=alice@example.com
        Nov 21 08:00:01 mx postfix/submission/smtpd[2]: 4Xy02: client=x[192.0.2.8], sasl_method=PLAIN, sasl_username=bob@example.com
        Nov 21 08:00:01 mx postfix/cleanup[3]: 4Xy02: message-id=<2@x>
        Nov 21 08:00:01 mx postfix/qmgr[4]: 4Xy02: from=<bob@example.com>, size=500, nrcpt=2 (queue active)
        Nov 21 08:00:02 mx postfix/cleanup[3]: 4Xy01: message-id=<1@x>
        Nov 21 08:00:02 mx postfix/qmgr[4]: 4Xy01: from=<alice@example.com>, size=900, nrcpt=5 (queue active)
        Nov 21 08:00:02 mx postfix/qmgr[4]: 4Xy02: removed
        Nov 21 08:00:03 mx postfix/smtpd[5]: 4Xy02: client=x[192.0.2.9], sasl_method=PLAIN, sasl_username=carol@example.com
        Nov 21 08:00:03 mx postfix/qmgr[4]: 4Xy02: from=<carol@example.com>, size=1, nrcpt=1 (queue active)";

    fn at(seconds: i64) -> i64 {
        8 * 3600 + seconds
    }

    #[test]
    fn postfix_s_lines_make_messages_in_the_order_they_began() {
        let alone = [
            told(at(0), "alice@example.com", 5),
            told(at(1), "bob@example.com", 2),
            told(at(3), "carol@example.com", 1),
        ];
        assert_eq!(joined(POSTFIX), alone);
        let twice: String = POSTFIX.lines().flat_map(|line| [line, "\n", line, "\n"]).collect();
        assert_eq!(joined(&twice), alone, "two logs that hold the same lines");
    }

    #[test]
    fn a_daemon_s_line_on_the_same_message_counts_and_the_size_comes_from_postfix() {
        let daemon = "2026-11-21T08:00:01.700+00:00 INFO 4Xy01: client=x[192.0.2.7], helo=h, sasl_method=PLAIN, \
            sasl_username=alice@example.com, from=alice@example.com, to=, recipient_count=6, curr_count=6/9, status=ACCEPTED\n";
        let mut lines: Vec<&str> = POSTFIX.lines().collect();
        lines.insert(2, daemon.trim_end());
        let text = lines.join("\n");
        let expected = [
            told(at(1), "bob@example.com", 2),
            told(at(1), "alice@example.com", 6),
            told(at(3), "carol@example.com", 1),
        ];
        assert_eq!(joined(&text), expected);
        let (messages, gaps) = joined_with(&text, true);
        let sizes: Vec<u64> = messages.iter().map(|(_, asked)| asked.size).collect();
        assert_eq!((sizes, gaps), (vec![500, 900, 1], Gaps { sent: 3, ..Gaps::default() }));
        // A log that is cut to the second may tell of the end first.
        let late: Vec<&str> =
            lines.iter().filter(|line| !line.contains("INFO")).copied().chain([daemon.trim_end()]).collect();
        assert_eq!(joined(&late.join("\n")).len(), 3);
    }

    #[test]
    fn what_was_held_or_refused_counts_as_one_recipient_and_what_was_never_sent_not_at_all() {
        let (messages, gaps) = joined_with(
            "Nov 21 08:00:00 mx postfix/smtpd[1]: 4Xy01: client=x[192.0.2.7], sasl_method=PLAIN, sasl_username=alice
             Nov 21 08:00:00 mx postfix/smtpd[1]: 4Xy01: hold: DATA from x[192.0.2.7]: <DATA>: quota; from=<a@b> proto=ESMTP
             Nov 21 08:00:00 mx postfix/cleanup[1]: 4Xy01: message-id=<1@x>
             Nov 21 08:00:01 mx postfix/smtpd[1]: 4Xy02: client=x[192.0.2.7], sasl_method=PLAIN, sasl_username=bob
             Nov 21 08:00:01 mx postfix/smtpd[1]: 4Xy02: reject: DATA from x[192.0.2.7]: 450 later; from=<a@b> to=<c@d> proto=ESMTP
             Nov 21 08:00:02 mx postfix/smtpd[1]: 4Xy03: client=x[192.0.2.7], sasl_method=PLAIN, sasl_username=carol
             Nov 21 08:00:02 mx postfix/smtpd[1]: lost connection after RCPT from x[192.0.2.7]
             Nov 21 08:30:00 mx postfix/qmgr[1]: 4Xy01: from=<a@b>, size=7, nrcpt=30 (queue active)",
            false,
        );
        let told: Vec<_> = messages.iter().map(|(_, asked)| (asked.login.as_str(), asked.recipients)).collect();
        assert_eq!(told, [("alice", Some(30)), ("bob", Some(1))], "released in time");
        assert_eq!(gaps, Gaps { unfinished: 1, sent: 2, uncounted: 1 });
    }

    /// As smtpd_proxy_filter makes Postfix log: two messages of one client at once, then one that is refused.
    const FILTERED: &str = "\
        Nov 21 08:00:00 mx postfix/smtpd[1]: NOQUEUE: client=x[192.0.2.7], sasl_method=PLAIN, sasl_username=alice
        Nov 21 08:00:00 mx postfix/smtpd[2]: NOQUEUE: client=x[192.0.2.7], sasl_method=PLAIN, sasl_username=bob
        Nov 21 08:00:01 mx postfix/smtpd[3]: 4Xy01: client=localhost[127.0.0.1], orig_client=x[192.0.2.7]
        Nov 21 08:00:01 mx postfix/cleanup[4]: 4Xy01: message-id=<1@x>
        Nov 21 08:00:01 mx postfix/smtpd[3]: 4Xy02: client=localhost[127.0.0.1], orig_client=x[192.0.2.7]
        Nov 21 08:00:02 mx postfix/qmgr[5]: 4Xy01: from=<a@b>, size=500, nrcpt=3 (queue active)
        Nov 21 08:00:02 mx postfix/smtpd[1]: NOQUEUE: proxy-accept: END-OF-MESSAGE from x[192.0.2.7]: 250 ok; from=<a@b>
        Nov 21 08:00:02 mx postfix/qmgr[5]: 4Xy02: from=<a@b>, size=500, nrcpt=2 (queue active)
        Nov 21 08:00:02 mx postfix/smtpd[2]: NOQUEUE: proxy-accept: END-OF-MESSAGE from x[192.0.2.7]: 250 ok; from=<a@b>
        Nov 21 08:00:03 mx postfix/smtpd[1]: NOQUEUE: client=x[192.0.2.7], sasl_method=PLAIN, sasl_username=carol
        Nov 21 08:00:04 mx postfix/smtpd[1]: NOQUEUE: reject: DATA from x[192.0.2.7]: 450 later; from=<a@b> proto=ESMTP
        Nov 21 08:00:05 mx postfix/smtpd[3]: 4Xy03: client=localhost[127.0.0.1], orig_client=y[192.0.2.8]";

    #[test]
    fn what_goes_through_a_before_queue_filter_has_the_login_from_before_it() {
        let expected = [told(at(0), "alice", 3), told(at(0), "bob", 2), told(at(3), "carol", 1)];
        assert_eq!(joined(FILTERED), expected);
        let (messages, gaps) = joined_with(FILTERED, true);
        let sizes: Vec<u64> = messages.iter().map(|(_, asked)| asked.size).collect();
        assert_eq!((sizes, gaps), (vec![500, 500, 0], Gaps { unfinished: 0, sent: 3, uncounted: 1 }));
        // A filter that does not say whose mail it is.
        let silent: Vec<&str> = FILTERED.lines().filter(|line| line.contains("NOQUEUE")).collect();
        let (messages, gaps) = joined_with(&silent.join("\n"), false);
        assert_eq!((messages.len(), gaps), (3, Gaps { unfinished: 0, sent: 3, uncounted: 3 }));
    }

    #[test]
    fn a_daemon_s_line_on_a_filtered_message_counts_once() {
        let daemon = "2026-11-21T08:00:01.700+00:00 INFO NOQUEUE: client=x[192.0.2.7], helo=h, sasl_method=PLAIN, \
            sasl_username=alice, from=a@b, to=, recipient_count=6, curr_count=6/9, status=ACCEPTED";
        let policyd = "Nov 21 08:00:01 mx policyd[9]: Updating db: alice/a@b/192.0.2.7/6/6";
        for (line, place) in [(daemon, 2), (daemon, 4), (policyd, 2), (policyd, 4)] {
            let mut lines: Vec<&str> = FILTERED.lines().collect();
            lines.insert(place, line);
            let (messages, _) = joined_with(&lines.join("\n"), true);
            let mut all: Vec<_> =
                messages.iter().map(|(_, asked)| (asked.login.as_str(), asked.recipients, asked.size)).collect();
            all.sort();
            let alice = ("alice", Some(6), 500);
            assert_eq!(all, [alice, ("bob", Some(2), 500), ("carol", Some(1), 0)], "{line} {place}");
        }
    }

    #[test]
    fn recipients_asked_about_one_by_one_are_one_message() {
        let asked = |second: u32, id: &str, to: &str| {
            format!(
                "2026-11-21T08:00:0{second}+00:00 INFO {id}: client=x[192.0.2.7], helo=h, sasl_method=PLAIN, \
                 sasl_username=alice, from=a@b, to={to}, recipient_count=0, curr_count=1/9, status=ACCEPTED\n"
            )
        };
        let text = [
            asked(0, "NOQUEUE", "a@x"),
            "Nov 21 08:00:00 mx postfix/smtpd[1]: 4Xy01: client=x[192.0.2.7], sasl_method=PLAIN, sasl_username=alice\n"
                .into(),
            asked(1, "4Xy01", "b@x"),
            "Nov 21 08:00:02 mx postfix/qmgr[1]: 4Xy01: from=<a@b>, size=7, nrcpt=2 (queue active)\n".into(),
            asked(8, "NOQUEUE", "c@x"),
            asked(9, "4Xy05", "d@x"),
        ];
        let (messages, _) = joined_with(&text.concat(), false);
        assert!(messages.iter().all(|(_, asked)| asked.recipients.is_none()), "{messages:?}");
        let names: Vec<&str> = messages.iter().map(|(_, asked)| asked.message.as_str()).collect();
        assert_eq!(names.len(), 4);
        assert!(names[0] == names[1] && names[2] == names[3] && names[0] != names[2], "{names:?}");
    }

    #[test]
    fn policyd_s_line_is_taken_for_the_message_of_the_same_client() {
        let text = "\
            Nov 21 08:00:00 mx postfix/smtps/smtpd[1]: 4Xy01: client=x[192.0.2.7], sasl_method=PLAIN, sasl_username=Alice@example.com
            Nov 21 08:00:00 mx postfix/smtps/smtpd[1]: 4Xy02: client=x[192.0.2.7], sasl_method=PLAIN, sasl_username=Alice@example.com
            Nov 21 08:00:01 mx policyd[9]: Updating db: alice/alice@example.com/192.0.2.7/4/4
            Nov 21 08:00:01 mx policyd[9]: Updating db: alice/alice@example.com/192.0.2.7/3/7
            Nov 21 08:00:01 mx postfix/qmgr[1]: 4Xy01: from=<alice@example.com>, size=7, nrcpt=4 (queue active)
            Nov 21 08:00:01 mx postfix/qmgr[1]: 4Xy02: from=<alice@example.com>, size=7, nrcpt=3 (queue active)
            Nov 21 08:00:02 mx policyd[9]: Updating db: bob/bob@example.com/192.0.2.8/1/1";
        let expected =
            [told(at(1), "Alice@example.com", 4), told(at(1), "Alice@example.com", 3), told(at(2), "bob", 1)];
        assert_eq!(joined(text), expected);
    }

    proptest! {
        #[test]
        fn any_lines_make_messages_in_order_and_few_wait(
            lines in prop::collection::vec((0i64..200_000, 0u8..9, 0u8..4, 1u32..5), 0..200),
            wants_size: bool,
        ) {
            let mut joiner = Joiner::new(wants_size);
            let (mut now, mut sent, mut given) = (0, 0, 0);
            let id = |number| format!("4Xy0{number}");
            for (pause, kind, number, recipients) in lines {
                now += pause;
                let id = id(number);
                let content = match kind {
                    0 => Content::Postfix(Event::Client { id, name: "x".into(), address: "192.0.2.7".into(), login: "a".into() }),
                    1 => Content::Postfix(Event::Sent { id, from: String::new(), to: String::new(), refused: recipients == 1 }),
                    2 => Content::Postfix(Event::Active { id, from: "a".into(), size: 1, recipients }),
                    3 => Content::Postfix(Event::Removed { id }),
                    6 => Content::Postfix(Event::Filtered { name: "x".into(), address: "192.0.2.7".into(), login: "a".into() }),
                    7 => Content::Postfix(Event::HandedOn { id, address: "192.0.2.7".into() }),
                    8 => Content::Postfix(Event::Answered { address: "192.0.2.7".into(), from: "a".into(), to: String::new(), accepted: recipients > 2 }),
                    4 => Content::Decided(Decided { queue_id: if recipients == 4 { String::new() } else { id }, asked: PastRequest { client_address: "192.0.2.7".into(), recipients: Some(recipients), ..PastRequest::default() } }),
                    _ => Content::Policyd(PastRequest { login: "a".into(), client_address: "192.0.2.7".into(), recipients: Some(1), ..PastRequest::default() }),
                };
                sent += u32::from(matches!(kind, 4 | 5));
                joiner.take(Line { at: now, content, left_out: 0, fingerprint: 0 });
                let mut last = 0;
                while let Some((at, _)) = joiner.next_message() {
                    prop_assert!(last <= at && at * 1000 <= now);
                    last = at;
                    given += 1;
                }
            }
            joiner.end();
            while joiner.next_message().is_some() {
                given += 1;
            }
            prop_assert!(given >= sent, "what a daemon tells is never lost");
            prop_assert!(joiner.messages.is_empty());
        }
    }
}
