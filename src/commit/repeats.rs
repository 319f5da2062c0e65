//! One message, asked about more than once: a retry after a lost reply, RCPT after RCPT, DATA and then END-OF-MESSAGE, a
//! second DATA after a refusal. Per sender and `instance` this remembers what was charged, so that each request is charged
//! only what is new about the message. Pure: time is an argument.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use super::Verdict;
use crate::limiter::decide::Increase;
use crate::protocol::request::{Request, Stage};

/// How long a message is remembered, counted from its last request. Far beyond Postfix's retries and any SMTP session's DATA.
pub const KEPT_FOR: Duration = Duration::from_secs(3600);
/// The most messages remembered; the oldest are forgotten first. About 20 MB if ever full, and what [`MOST_TOLD`] allows.
pub const MOST: usize = 100_000;
/// The most recipients of one message that are told apart. Later ones count each time they are asked about.
const MOST_RECIPIENTS: usize = 1000;
/// The most recipients that are told apart of all messages together; with more, the oldest messages are forgotten. 20 MB.
const MOST_TOLD: usize = 1_000_000;

/// What was charged for one message so far.
#[derive(Debug, Default)]
struct Charged {
    message: bool,
    recipients: u32,
    bytes: u64,
    /// None unless it was asked about at RCPT.
    at_rcpt: Option<Box<AtRcpt>>,
    verdict: Option<Verdict>,
    /// When it was last asked about, as time since start.
    at: Duration,
}

/// The recipients of one message, as they came at RCPT.
#[derive(Debug, Default)]
struct AtRcpt {
    /// Hashes.
    seen: HashSet<u64>,
    /// How many came after the set was full.
    untold: u32,
}

/// What is known about the messages of the last hour.
#[derive(Debug, Default)]
pub struct Repeats {
    messages: HashMap<Key, Charged>,
    /// Keys by the time of their entry; a message asked about again stands here again.
    order: VecDeque<(Duration, Key)>,
    /// Recipients told apart, of all messages.
    told: usize,
    hasher: [RandomState; 2],
}

/// A hash of sender and instance, keyed at random in each process: nobody outside can make two messages meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key(u64, u64);

/// What a request asks to be charged for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// None for a request without an instance, which is never a repeat.
    pub key: Option<Key>,
    what: What,
    /// The message's size, where it is known for certain.
    bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    /// RCPT: the hash of one recipient.
    Recipient(u64),
    /// DATA, END-OF-MESSAGE: all recipients.
    Recipients(u32),
}

/// What is new about a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// This much, to be charged, of a message that has so many recipients in all.
    Increase(Increase, u32),
    /// Nothing: this was the answer.
    Nothing(Verdict),
}

impl Repeats {
    pub fn asked(&self, sender: &str, request: &Request) -> Asked {
        let [first, second] = &self.hasher;
        let named = (sender, &request.instance);
        Asked {
            key: (!request.instance.is_empty()).then(|| Key(first.hash_one(named), second.hash_one(named))),
            what: match request.stage {
                Stage::Rcpt => What::Recipient(first.hash_one(request.recipient.to_lowercase())),
                // A message that is being sent has a recipient, whatever the count says.
                _ => What::Recipients(request.recipient_count.max(1)),
            },
            // Before END-OF-MESSAGE the size is only what the client announced.
            bytes: if request.stage == Stage::EndOfMessage { request.size } else { 0 },
        }
    }

    /// What is new about the request, judged by what was charged before.
    pub fn news(&self, asked: &Asked) -> News {
        let known = asked.key.and_then(|key| self.messages.get(&key));
        let Some(charged) = known else {
            let recipients = match asked.what {
                What::Recipient(_) => 1,
                What::Recipients(all) => all,
            };
            return News::Increase(Increase { messages: 1, recipients, bytes: asked.bytes }, recipients);
        };
        let recipients = charged.with(asked.what);
        let increase = Increase {
            messages: u32::from(!charged.message),
            recipients: recipients.saturating_sub(charged.recipients),
            bytes: asked.bytes.saturating_sub(charged.bytes),
        };
        match &charged.verdict {
            Some(verdict) if increase.is_nothing() => News::Nothing(verdict.clone()),
            _ => News::Increase(increase, recipients.max(charged.recipients)),
        }
    }

    /// Remembers that the request was charged, and its answer.
    pub fn remember(&mut self, asked: &Asked, verdict: &Verdict, now: Duration) {
        let Some(key) = asked.key else { return };
        self.forget(now);
        let charged = self.messages.entry(key).or_default();
        let recipients = charged.with(asked.what);
        if let What::Recipient(hash) = asked.what {
            let at_rcpt = charged.at_rcpt.get_or_insert_default();
            if at_rcpt.seen.len() < MOST_RECIPIENTS {
                self.told += usize::from(at_rcpt.seen.insert(hash));
            } else if !at_rcpt.seen.contains(&hash) {
                at_rcpt.untold = at_rcpt.untold.saturating_add(1);
            }
        }
        charged.message = true;
        charged.recipients = charged.recipients.max(recipients);
        charged.bytes = charged.bytes.max(asked.bytes);
        charged.verdict = Some(verdict.clone());
        charged.at = now;
        self.order.push_back((now, key));
    }

    /// How many messages are remembered.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    fn forget(&mut self, now: Duration) {
        while let Some(&(at, key)) = self.order.front() {
            let full = self.messages.len() >= MOST || self.order.len() >= 2 * MOST || self.told >= MOST_TOLD;
            if !full && now.saturating_sub(at) <= KEPT_FOR {
                break;
            }
            self.order.pop_front();
            // Asked about again since: a later entry stands for it.
            if self.messages.get(&key).is_some_and(|charged| charged.at == at) {
                let forgotten = self.messages.remove(&key).and_then(|charged| charged.at_rcpt);
                self.told -= forgotten.map_or(0, |at_rcpt| at_rcpt.seen.len());
            }
        }
    }
}

impl Charged {
    /// The message's recipients, with what a request says about them.
    fn with(&self, what: What) -> u32 {
        match what {
            What::Recipients(all) => all,
            What::Recipient(hash) => self.at_rcpt.as_ref().map_or(1, |at_rcpt| {
                let new = !at_rcpt.seen.contains(&hash);
                let seen = u32::try_from(at_rcpt.seen.len()).unwrap_or(u32::MAX);
                seen.saturating_add(at_rcpt.untold).saturating_add(u32::from(new))
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commit::FailOpen;
    use crate::protocol::reply::Action;
    use crate::protocol::request::{Event, Parser};

    fn request(stage: &str, recipient: &str, count: u32, instance: &str) -> Request {
        let text =
            format!("protocol_state={stage}\nrecipient={recipient}\nrecipient_count={count}\ninstance={instance}\n\n");
        match Parser::default().feed(text.as_bytes()).1 {
            Some(Event::Request(Ok(request))) => *request,
            other => panic!("{other:?}"),
        }
    }

    fn verdict(text: &str) -> Verdict {
        Verdict::FailOpen(FailOpen::Deadline, Action::parse(text).unwrap())
    }

    /// Charges a request and returns what was new about it.
    fn charge(repeats: &mut Repeats, sender: &str, request: &Request, now: u64) -> (u32, u32) {
        let asked = repeats.asked(sender, request);
        match repeats.news(&asked) {
            News::Increase(increase, _) => {
                repeats.remember(&asked, &verdict("HOLD x"), Duration::from_secs(now));
                (increase.messages, increase.recipients)
            }
            News::Nothing(_) => (0, 0),
        }
    }

    #[test]
    fn a_retry_gets_the_same_answer_and_is_not_charged() {
        let mut repeats = Repeats::default();
        let data = request("DATA", "", 3, "1.2.3");
        let asked = repeats.asked("alice", &data);
        repeats.remember(&asked, &verdict("HOLD once"), Duration::ZERO);
        assert_eq!(repeats.news(&repeats.asked("alice", &data)), News::Nothing(verdict("HOLD once")));
        let eom = request("END-OF-MESSAGE", "", 3, "1.2.3");
        assert!(matches!(repeats.news(&repeats.asked("alice", &eom)), News::Nothing(_)));
        assert!(matches!(repeats.news(&repeats.asked("bob", &data)), News::Increase(..)), "another sender");
    }

    #[test]
    fn recipients_add_up_to_what_data_says() {
        let mut repeats = Repeats::default();
        assert_eq!(charge(&mut repeats, "alice", &request("RCPT", "a@x", 0, "i"), 0), (1, 1));
        assert_eq!(charge(&mut repeats, "alice", &request("RCPT", "b@x", 0, "i"), 0), (0, 1));
        assert_eq!(charge(&mut repeats, "alice", &request("RCPT", "A@x", 0, "i"), 0), (0, 0), "the same again");
        assert_eq!(charge(&mut repeats, "alice", &request("DATA", "", 5, "i"), 0), (0, 3));
        assert_eq!(charge(&mut repeats, "alice", &request("DATA", "", 4, "i"), 0), (0, 0), "never less");
        assert_eq!(charge(&mut repeats, "alice", &request("RCPT", "c@x", 0, "i"), 0), (0, 0), "DATA had it counted");
    }

    #[test]
    fn data_counts_at_least_one_recipient_and_no_instance_is_no_repeat() {
        let mut repeats = Repeats::default();
        for _ in 0..2 {
            assert_eq!(charge(&mut repeats, "alice", &request("DATA", "", 0, ""), 0), (1, 1));
        }
        assert!(repeats.is_empty());
    }

    #[test]
    fn a_message_is_forgotten_an_hour_after_its_last_request() {
        let mut repeats = Repeats::default();
        charge(&mut repeats, "alice", &request("DATA", "", 1, "old"), 0);
        charge(&mut repeats, "alice", &request("DATA", "", 2, "old"), 3000);
        charge(&mut repeats, "alice", &request("DATA", "", 1, "x"), 3601);
        assert_eq!(charge(&mut repeats, "alice", &request("DATA", "", 2, "old"), 3601), (0, 0), "asked about at 3000");
        charge(&mut repeats, "alice", &request("DATA", "", 1, "y"), 6601);
        assert_eq!(charge(&mut repeats, "alice", &request("DATA", "", 2, "old"), 6601), (1, 2));
    }

    #[test]
    fn memory_is_bounded() {
        let mut repeats = Repeats::default();
        for number in 0..MOST + 50 {
            charge(&mut repeats, "alice", &request("DATA", "", 1, &number.to_string()), 0);
        }
        assert_eq!(repeats.len(), MOST);
        for number in 0..1100 * MOST_RECIPIENTS {
            let message = (number / MOST_RECIPIENTS).to_string();
            charge(&mut repeats, "bob", &request("RCPT", &format!("{number}@x"), 0, &message), 0);
        }
        let told = |charged: &Charged| charged.at_rcpt.as_ref().map_or(0, |at_rcpt| at_rcpt.seen.len());
        assert_eq!(repeats.told, repeats.messages.values().map(told).sum::<usize>());
        assert!(repeats.told <= MOST_TOLD, "{}", repeats.told);
        for number in 0..MOST_RECIPIENTS + 50 {
            charge(&mut repeats, "alice", &request("RCPT", &format!("{number}@x"), 0, "long"), 0);
        }
        let asked = repeats.asked("alice", &request("RCPT", "0@x", 0, "long"));
        let charged = &repeats.messages[&asked.key.unwrap()];
        assert_eq!(
            (charged.at_rcpt.as_ref().unwrap().seen.len(), charged.recipients),
            (MOST_RECIPIENTS, MOST_RECIPIENTS as u32 + 50)
        );
    }
}
