//! One message, asked about more than once: a retry after a lost reply, RCPT after RCPT, DATA and then END-OF-MESSAGE, a
//! second DATA after a refusal. Per sender and `instance` this remembers what was asked for and what of it was let through.
//! Each request adds to the counters only what was not asked for before, and is judged by all that would go through with it
//! and has not gone through: a sender that was refused 1,000 recipients and then asks for 1,001 is judged by 1,001. Pure: time is an argument.

pub mod kept;
pub mod message;

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use lru::LruCache;
use siphasher::sip::SipHasher13;

use self::message::{Asked, Key, Message, Stored, What};

use crate::limiter::increase::Increase;
use crate::limiter::verdict::Verdict;
use crate::protocol::request::{Request, Stage};

/// How long a message is remembered at least, counted from its last request. Far beyond Postfix's retries and any SMTP
/// session's DATA.
pub const KEPT_FOR: Duration = Duration::from_secs(3600);
/// The most messages remembered; those that were asked about first are forgotten first. If ever full, these are 8 MB where
/// they went through, 50 MB where all of them were refused, and what `MAX_TOLD` allows.
pub const MAX_MESSAGES: usize = 100_000;
/// The most recipients that are told apart of all messages together; with more, the oldest messages are forgotten. 20 MB.
const MAX_TOLD: usize = 500_000;
/// One account's flood must not push out what others asked: it has this part of each of the three, and pushes out its own.
const PART_OF_ACCOUNT: usize = 10;

/// What is known about the messages of the last hour.
#[derive(Debug)]
pub struct Deduplication {
    messages: HashMap<u64, Stored>,
    /// The accounts by their hashes, that which asked last at the end.
    accounts: LruCache<u64, Account>,
    /// Recipients told apart, of all messages.
    told: usize,
    hasher: SipHasher13,
}

/// The messages of one account.
#[derive(Debug, Default)]
struct Account {
    /// In the order of their first requests.
    order: VecDeque<u64>,
    /// Recipients told apart.
    told: usize,
}

/// What is new about a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// This, to be counted and judged.
    Some(New),
    /// Nothing: this was the answer.
    Nothing(Verdict),
}

/// What was not asked for before, and what has not gone through before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct New {
    pub increase: Increase,
    pub outstanding: Increase,
    /// All recipients that the message would have.
    pub recipients_of_message: u32,
}

impl Default for Deduplication {
    fn default() -> Deduplication {
        let random = || RandomState::new().build_hasher().finish();
        Deduplication::with_key((random(), random()))
    }
}

impl Deduplication {
    /// `key` is that of the hashes.
    fn with_key((first, second): (u64, u64)) -> Deduplication {
        Deduplication {
            messages: HashMap::new(),
            accounts: LruCache::unbounded(),
            told: 0,
            hasher: SipHasher13::new_with_keys(first, second),
        }
    }

    fn hash(&self, texts: &[&str]) -> u64 {
        let mut hasher = self.hasher;
        for text in texts {
            hasher.write(text.as_bytes());
            // In no text: so none ends within another.
            hasher.write_u8(0xff);
        }
        hasher.finish()
    }

    pub fn asked(&self, sender: &str, request: &Request) -> Asked {
        let key = || Key { account: self.hash(&[sender]), message: self.hash(&[sender, &request.instance]) };
        Asked {
            key: (!request.instance.is_empty()).then(key),
            what: match request.stage {
                Stage::Rcpt => What::Recipient(self.hash(&[&request.recipient.to_lowercase()])),
                // A message that is being sent has a recipient, whatever the count says.
                _ => What::Recipients(request.recipient_count.max(1)),
            },
            // Before END-OF-MESSAGE the size is only what the client announced.
            bytes: if request.stage == Stage::EndOfMessage { request.size } else { 0 },
        }
    }

    /// What is new about the request, judged by what was asked about the message before.
    pub fn news(&self, asked: &Asked) -> News {
        let known = asked.key.and_then(|key| self.messages.get(&key.message));
        let message = known.map(Stored::message).unwrap_or_default();
        let would_pass = message.would_pass(asked);
        let increase = message.would_be_asked(asked).beyond(message.asked);
        let outstanding = would_pass.beyond(message.through);
        let answered = match (outstanding.is_nothing(), increase.is_nothing()) {
            (true, _) => &message.passed,
            (false, true) => &message.refused,
            (false, false) => &None,
        };
        match answered {
            Some(verdict) => News::Nothing(verdict.clone()),
            None => News::Some(New {
                // The counters that put it over the quota may have been reset since, or the database may be away: messages of
                // a thousand recipients would go through as one recipient each. Over quota, nobody loses by being counted
                // anew.
                increase: if increase.is_mail() && message.was_over_quota() { outstanding } else { increase },
                outstanding,
                recipients_of_message: would_pass.recipients.max(message.through.recipients),
            }),
        }
    }

    /// Remembers that the request was charged, its answer, and whether the mail goes on with that.
    pub fn remember(&mut self, asked: &Asked, verdict: &Verdict, passes: bool, now: Duration) {
        let Some(key) = asked.key else { return };
        let now = now + KEPT_FOR;
        self.forget(key.account, now);
        let known = self.messages.remove(&key.message);
        let is_new = known.is_none();
        let mut message = known.map(Message::from).unwrap_or_default();
        let told = message.note(asked, verdict, passes, seconds(now));
        self.keep(key, message, is_new, told);
    }

    /// Keeps what is known about a message. `told` is how many of its recipients were not told apart before.
    fn keep(&mut self, key: Key, message: Message, is_new: bool, told: usize) {
        let account = self.accounts.get_or_insert_mut(key.account, Account::default);
        if is_new {
            account.order.push_back(key.message);
        }
        account.told += told;
        self.told += told;
        self.messages.insert(key.message, Stored::from(message));
    }

    /// How many messages are remembered.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Forgets what is too old, and what is too much: first of the account that asks, then of that which asked least lately.
    fn forget(&mut self, asking: u64, now: Duration) {
        while let Some(own) = self.accounts.peek(&asking)
            && (self.is_old(own, now)
                || own.order.len() >= MAX_MESSAGES / PART_OF_ACCOUNT
                || own.told >= MAX_TOLD / PART_OF_ACCOUNT)
        {
            self.forget_one(asking);
        }
        while let Some((&account, oldest)) = self.accounts.peek_lru()
            && (self.is_old(oldest, now) || self.messages.len() >= MAX_MESSAGES || self.told >= MAX_TOLD)
        {
            self.forget_one(account);
        }
    }

    /// Whether the message that an account asked about first is too old.
    fn is_old(&self, account: &Account, now: Duration) -> bool {
        let first = account.order.front().and_then(|message| self.messages.get(message));
        first.is_none_or(|first| u64::from(seconds(now).saturating_sub(first.at())) > KEPT_FOR.as_secs())
    }

    /// Forgets the message that an account asked about first.
    fn forget_one(&mut self, id: u64) {
        let Some(account) = self.accounts.peek_mut(&id) else { return };
        let first = account.order.pop_front().and_then(|first| self.messages.remove(&first));
        if let Some(Stored::Other(message)) = first {
            let told = message.at_rcpt.map_or(0, |at_rcpt| at_rcpt.told.len());
            account.told -= told;
            self.told -= told;
        }
        if account.order.is_empty() {
            self.accounts.pop(&id);
        }
    }
}

fn seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::message::MAX_RECIPIENTS;
    use super::*;
    use crate::limiter::decision::Decision;
    use crate::limiter::decision::Reason;
    use crate::limiter::verdict::FailOpen;
    use crate::protocol::reply::{Action, Strictness};
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
        Verdict::Counted(Arc::new(ruling(text)))
    }

    fn ruling(text: &str) -> Decision {
        let action = Action::parse(text).unwrap();
        let let_through = action.strictness() <= Strictness::Hold;
        Decision {
            action,
            blocked: !let_through,
            first_block: false,
            used: 0,
            quota: 0,
            reason: None,
            would: None,
            reached: Vec::new(),
            let_through,
            from_new_network: false,
        }
    }

    fn remember(deduplication: &mut Deduplication, asked: &Asked, verdict: &Verdict) {
        deduplication.remember(asked, verdict, verdict.lets_through(&Action::DUNNO), Duration::ZERO);
    }

    /// Charges a request, lets it through and returns what was new about it.
    fn charge(deduplication: &mut Deduplication, sender: &str, request: &Request, now: u64) -> (u32, u32) {
        let asked = deduplication.asked(sender, request);
        match deduplication.news(&asked) {
            News::Some(New { increase, outstanding, .. }) => {
                assert_eq!(increase, outstanding, "nothing was refused");
                deduplication.remember(&asked, &verdict("HOLD x"), true, Duration::from_secs(now));
                (increase.messages, increase.recipients)
            }
            News::Nothing(_) => (0, 0),
        }
    }

    /// Charges a request of alice's and answers it so. Tells how many messages and recipients were counted, how many were
    /// judged, and how many recipients the message would have; or the answer that it had before.
    fn ask(deduplication: &mut Deduplication, request: &Request, answer: &str) -> String {
        let asked = deduplication.asked("alice", request);
        match deduplication.news(&asked) {
            News::Some(New { increase: counted, outstanding: judged, recipients_of_message }) => {
                remember(deduplication, &asked, &verdict(answer));
                let sums = [counted, judged].map(|sum| format!("{} and {}", sum.messages, sum.recipients));
                format!("{}, judged {}, of {recipients_of_message}", sums[0], sums[1])
            }
            News::Nothing(verdict) => verdict.decision().unwrap().action.to_string(),
        }
    }

    #[test]
    fn what_was_refused_is_counted_once_and_judged_again() {
        let mut deduplication = Deduplication::default();
        let data = |count| request("DATA", "", count, "i");
        assert_eq!(ask(&mut deduplication, &data(999), "DEFER full"), "1 and 999, judged 1 and 999, of 999");
        assert_eq!(ask(&mut deduplication, &data(999), ""), "DEFER full", "a retry");
        assert_eq!(ask(&mut deduplication, &data(1000), "DEFER full"), "0 and 1, judged 1 and 1000, of 1000");
        assert_eq!(ask(&mut deduplication, &data(1001), "HOLD"), "0 and 1, judged 1 and 1001, of 1001");
        assert_eq!(ask(&mut deduplication, &data(1001), ""), "HOLD");
    }

    #[test]
    fn what_the_quota_refused_is_counted_anew_when_more_is_asked_for() {
        let mut deduplication = Deduplication::default();
        let data = |count| request("DATA", "", count, "i");
        let refused = Verdict::Counted(Arc::new(Decision {
            reason: Some(Reason::Limit { limit: "1x quota 10".into(), used: 11, is_quota: true }),
            ..ruling("DEFER full")
        }));
        let asked = deduplication.asked("alice", &data(999));
        remember(&mut deduplication, &asked, &refused);
        assert_eq!(deduplication.news(&asked), News::Nothing(refused.clone()), "a retry");
        assert_eq!(ask(&mut deduplication, &data(1000), "DUNNO"), "1 and 1000, judged 1 and 1000, of 1000");
        assert_eq!(ask(&mut deduplication, &data(1001), "DUNNO"), "0 and 1, judged 0 and 1, of 1001");
        // Postfix lets it pass in spite of the refusal, as with warn_if_reject, and its content is new.
        let content = deduplication.asked("alice", &request("END-OF-MESSAGE", "", 999, "j\nsize=4000"));
        let asked = deduplication.asked("alice", &request("DATA", "", 999, "j"));
        remember(&mut deduplication, &asked, &refused);
        let News::Some(New { increase, outstanding, .. }) = deduplication.news(&content) else {
            panic!("nothing is new")
        };
        assert_eq!(increase, Increase { messages: 0, recipients: 0, bytes: 4000 });
        assert_eq!(outstanding, Increase { messages: 1, recipients: 999, bytes: 4000 });
    }

    #[test]
    fn what_was_answered_in_doubt_went_through_or_not_as_it_was_answered() {
        for (answer, outstanding) in [("DUNNO", 1), ("HOLD", 1), ("DEFER try again", 1000)] {
            let mut deduplication = Deduplication::default();
            let asked = deduplication.asked("alice", &request("DATA", "", 999, "i"));
            let in_doubt = Verdict::InDoubt(FailOpen::CommitUnknown);
            let passes = in_doubt.lets_through(&Action::parse(answer).unwrap());
            deduplication.remember(&asked, &in_doubt, passes, Duration::ZERO);
            assert_eq!(deduplication.news(&asked), News::Nothing(in_doubt), "it may have been counted");
            let News::Some(new) = deduplication.news(&deduplication.asked("alice", &request("DATA", "", 1000, "i")))
            else {
                panic!("a recipient is new");
            };
            assert_eq!((new.increase.recipients, new.outstanding.recipients), (1, outstanding), "{answer}");
        }
    }

    #[test]
    fn who_is_refused_at_rcpt_is_no_recipient() {
        let mut deduplication = Deduplication::default();
        let rcpt = |name| request("RCPT", name, 0, "i");
        assert_eq!(ask(&mut deduplication, &rcpt("a@x"), "REJECT"), "1 and 1, judged 1 and 1, of 1");
        assert_eq!(
            ask(&mut deduplication, &rcpt("b@x"), "DUNNO"),
            "0 and 1, judged 1 and 1, of 1",
            "the message is judged again"
        );
        assert_eq!(ask(&mut deduplication, &rcpt("c@x"), "DUNNO"), "0 and 1, judged 0 and 1, of 2");
        assert_eq!(ask(&mut deduplication, &rcpt("d@x"), "DEFER"), "0 and 1, judged 0 and 1, of 3");
        assert_eq!(ask(&mut deduplication, &rcpt("D@x"), ""), "DEFER");
        assert_eq!(ask(&mut deduplication, &rcpt("C@x"), ""), "DUNNO");
        assert_eq!(ask(&mut deduplication, &request("DATA", "", 2, "i"), ""), "DUNNO", "both were let through");
    }

    #[test]
    fn a_retry_gets_the_same_answer_and_is_not_charged() {
        let mut deduplication = Deduplication::default();
        let data = request("DATA", "", 3, "1.2.3");
        let asked = deduplication.asked("alice", &data);
        remember(&mut deduplication, &asked, &verdict("HOLD once"));
        assert_eq!(deduplication.news(&deduplication.asked("alice", &data)), News::Nothing(verdict("HOLD once")));
        let eom = request("END-OF-MESSAGE", "", 3, "1.2.3");
        assert!(matches!(deduplication.news(&deduplication.asked("alice", &eom)), News::Nothing(_)));
        assert!(matches!(deduplication.news(&deduplication.asked("bob", &data)), News::Some(_)), "another sender");
    }

    #[test]
    fn recipients_add_up_to_what_data_says() {
        let mut deduplication = Deduplication::default();
        assert_eq!(charge(&mut deduplication, "alice", &request("RCPT", "a@x", 0, "i"), 0), (1, 1));
        assert_eq!(charge(&mut deduplication, "alice", &request("RCPT", "b@x", 0, "i"), 0), (0, 1));
        assert_eq!(charge(&mut deduplication, "alice", &request("RCPT", "A@x", 0, "i"), 0), (0, 0), "the same again");
        assert_eq!(charge(&mut deduplication, "alice", &request("DATA", "", 5, "i"), 0), (0, 3));
        assert_eq!(charge(&mut deduplication, "alice", &request("DATA", "", 4, "i"), 0), (0, 0), "never less");
        assert_eq!(
            charge(&mut deduplication, "alice", &request("RCPT", "c@x", 0, "i"), 0),
            (0, 0),
            "DATA had it counted"
        );
    }

    #[test]
    fn data_counts_at_least_one_recipient_and_no_instance_is_no_repeat() {
        let mut deduplication = Deduplication::default();
        for _ in 0..2 {
            assert_eq!(charge(&mut deduplication, "alice", &request("DATA", "", 0, ""), 0), (1, 1));
        }
        assert!(deduplication.is_empty());
    }

    #[test]
    fn a_message_is_forgotten_an_hour_after_its_last_request() {
        let mut deduplication = Deduplication::default();
        charge(&mut deduplication, "alice", &request("DATA", "", 1, "old"), 0);
        charge(&mut deduplication, "alice", &request("DATA", "", 2, "old"), 3000);
        charge(&mut deduplication, "alice", &request("DATA", "", 1, "x"), 3601);
        assert_eq!(
            charge(&mut deduplication, "alice", &request("DATA", "", 2, "old"), 3601),
            (0, 0),
            "asked about at 3000"
        );
        charge(&mut deduplication, "alice", &request("DATA", "", 1, "y"), 6601);
        assert_eq!(charge(&mut deduplication, "alice", &request("DATA", "", 2, "old"), 6601), (1, 2));
    }

    #[test]
    fn memory_is_bounded_of_each_account_first() {
        let mut deduplication = Deduplication::default();
        let victims = request("DATA", "", 3, "one");
        charge(&mut deduplication, "victim", &victims, 0);
        for number in 0..MAX_MESSAGES + 50 {
            charge(&mut deduplication, "alice", &request("DATA", "", 1, &number.to_string()), 0);
        }
        assert_eq!(deduplication.len(), MAX_MESSAGES / PART_OF_ACCOUNT + 1);
        for number in 0..100 * MAX_RECIPIENTS {
            let message = (number / MAX_RECIPIENTS).to_string();
            charge(&mut deduplication, "bob", &request("RCPT", &format!("{number}@x"), 0, &message), 0);
        }
        for number in 0..MAX_RECIPIENTS + 50 {
            charge(&mut deduplication, "alice", &request("RCPT", &format!("{number}@x"), 0, "long"), 0);
        }
        let asked = deduplication.asked("alice", &request("RCPT", "0@x", 0, "long"));
        let message = deduplication.messages[&asked.key.unwrap().message].message();
        assert_eq!(
            (message.at_rcpt.as_ref().unwrap().told.len(), message.asked.recipients),
            (MAX_RECIPIENTS, MAX_RECIPIENTS as u32 + 50)
        );
        assert_eq!(charge(&mut deduplication, "victim", &victims, 0), (0, 0), "nobody else is pushed out");
        for number in 0..MAX_MESSAGES + 50 {
            charge(&mut deduplication, &format!("many{number}"), &victims, 1);
        }
        assert!(matches!(charge(&mut deduplication, "victim", &victims, 1), (1, 3)), "all of them are");
        let told = |stored: &Stored| stored.message().at_rcpt.as_ref().map_or(0, |at_rcpt| at_rcpt.told.len());
        assert_eq!(deduplication.told, deduplication.messages.values().map(told).sum::<usize>());
        let kept: usize = deduplication.accounts.iter().map(|(_, account)| account.order.len()).sum();
        assert_eq!(kept, deduplication.messages.len());
        assert!(kept <= MAX_MESSAGES && deduplication.told <= MAX_TOLD);
        deduplication.forget(0, 2 * KEPT_FOR + Duration::from_secs(2));
        assert_eq!((deduplication.len(), deduplication.told, deduplication.accounts.len()), (0, 0, 0));
    }

    #[test]
    fn a_message_that_went_through_takes_at_most_a_hundred_bytes() {
        let mut deduplication = Deduplication::default();
        let accepted = Verdict::Counted(Arc::new(Decision::accepted(1, 1000)));
        for number in 0..MAX_MESSAGES {
            for stage in ["DATA", "END-OF-MESSAGE"] {
                let request = request(stage, "", 1, &format!("{number}\nsize=4000"));
                let asked = deduplication.asked(&format!("sender{}", number % 50), &request);
                assert!(matches!(deduplication.news(&asked), News::Some(_)));
                deduplication.remember(&asked, &accepted, true, Duration::from_secs(number as u64 / 30));
            }
        }
        assert!(deduplication.len() + 1 >= MAX_MESSAGES);
        assert!(deduplication.messages.values().all(|stored| matches!(stored, Stored::Passed(_))));
        // A hash table of the standard library has a byte beside each place, and an eighth of its places stays free.
        let table = deduplication.messages.capacity() * 8 / 7 * (size_of::<(u64, Stored)>() + 1);
        let orders: usize = deduplication.accounts.iter().map(|(_, account)| account.order.capacity() * 8).sum();
        let accounts = deduplication.accounts.len() * 200;
        assert!(table + orders + accounts <= 100 * MAX_MESSAGES, "{table} + {orders} + {accounts}");
    }

    proptest! {
        #[test]
        fn few_bytes_say_all(requests in prop::collection::vec((0..4usize, 1..4u32, 0..3u64, 0..5u64), 1..6)) {
            let deduplication = Deduplication::default();
            let mut message = Message::default();
            for (stage, count, size, answer) in requests {
                let stage = ["RCPT", "DATA", "DATA", "END-OF-MESSAGE"][stage];
                let request = request(stage, &format!("r{count}@x"), count, &format!("i\nsize={size}"));
                let decision = match answer {
                    0 => ruling("DEFER later"),
                    1 => ruling("HOLD x"),
                    used => Decision::accepted(used, 1000),
                };
                let passes = decision.let_through;
                let verdict = if size == 1 { Verdict::FromMemory } else { Verdict::Counted };
                message.note(&deduplication.asked("alice", &request), &verdict(Arc::new(decision)), passes, count);
                let all = format!("{message:?}");
                message = Message::from(Stored::from(message));
                prop_assert_eq!(format!("{:?}", message), all);
            }
        }
    }
}
