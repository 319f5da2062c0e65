//! Asks about past messages, one after the other, of the code that decides live: `commit::rounds` says what is to be settled,
//! `commit::batch` decides it, the real `store` counts it. Only the clock is the log's, and the database is an empty one in
//! memory.
//!
//! The committer makes batches of what waits; here it is what came in within a minute, each at its own time. Once a day, at
//! the moment at which the packaged timer runs `cleanup`, counters are reset and history that is too old is deleted.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::PastRequest;
use crate::account::Attributes;
use crate::clock;
use crate::commit::charge::Charge;
use crate::commit::days;
use crate::commit::rounds::{Answered, MAX_BATCH, Next, Now, Rounds};
use crate::commit::standings::Standings;
use crate::config::{Database, IN_MEMORY};
use crate::limiter::day;
use crate::limiter::decision::Decision;
use crate::limiter::increase::Increase;
use crate::limiter::retention::{self, Retention};
use crate::limiter::terms::{Known, Terms};
use crate::limiter::window::minute_of;
use crate::policy::lists::Hit;
use crate::protocol::queue_id::QueueId;
use crate::protocol::reply::Action;
use crate::protocol::request::{Request, Stage, without_controls};
use crate::store::maintenance::{Aged, Chunk, Outdated};
use crate::store::migrate::MigrateError;
use crate::store::senders::{Change, SenderRow};
use crate::store::{Failure, Store};

/// What came of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// Unix seconds.
    pub at: i64,
    pub asked: PastRequest,
    pub outcome: Outcome,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Decided {
        sender: String,
        /// What was let through, or what was refused that was not asked for before.
        mail: Increase,
        decision: Arc<Decision>,
    },
    /// Asked about before, and nothing is new about it.
    Again {
        sender: String,
        decision: Arc<Decision>,
    },
    Listed(Hit, Action),
    /// Nobody is charged for it: it has no login.
    Nobody,
}

/// A policy on trial.
pub struct Trial {
    terms: Arc<Terms>,
    retention: Retention,
    store: Store,
    /// The answer to a charge goes to a place in `asked`.
    rounds: Rounds<usize>,
    /// In the order of arrival; those without an outcome wait to be settled.
    asked: Vec<(i64, PastRequest, Option<Outcome>)>,
    /// When the first came that is to be settled.
    first: Option<i64>,
    judged: Vec<Judged>,
    /// The log's time, which never goes back.
    now: i64,
    began: Option<i64>,
    next_cleanup: i64,
}

impl Trial {
    /// On an empty database in memory. `terms` must have the zone of the log.
    pub async fn new(mut terms: Terms, retention: Retention) -> Result<Trial, MigrateError> {
        let mut store = Store::new(&Database::sqlite(IN_MEMORY.to_owned()));
        store.migrate(true, clock::now()).await?;
        // Nobody would ever read the audit rows.
        terms.message_log = false;
        let terms = Arc::new(terms);
        Ok(Trial {
            terms: terms.clone(),
            retention,
            store,
            rounds: Rounds::new(terms, Standings::of_private_database()),
            asked: Vec::new(),
            first: None,
            judged: Vec::new(),
            now: i64::MIN,
            began: None,
            next_cleanup: i64::MIN,
        })
    }

    /// Sets the lasting quota of this row for a sender, or for the logins of a domain.
    pub async fn set_quota(&mut self, row: &SenderRow) -> Result<(), Failure> {
        let quota = if row.locked { row.quota } else { row.quota_reset };
        let change = Change { quota: Some(quota), once: false, locked: None };
        self.store.set(&row.sender, change, self.terms.policy.new_quota, clock::now()).await.map(|_| ())
    }

    /// Asks about a message. What came of it is among what a later [`Trial::judged`] returns.
    pub async fn ask(&mut self, at: i64, asked: PastRequest) -> Result<(), Failure> {
        self.pass_time(at).await?;
        let request = request(&asked);
        let attributes = Attributes {
            sasl_username: &request.sasl_username,
            sender: &request.sender,
            client_address: &request.client_address,
        };
        let now = self.now;
        let zone = self.terms.policy.zone.clone();
        let local_time = || Timestamp::from_second(now).unwrap_or_default().to_zoned(zone).datetime();
        let outcome = match self.terms.know(&attributes, local_time) {
            Known::Listed(hit, action, _) => Some(Outcome::Listed(hit, action)),
            Known::Nobody => Some(Outcome::Nobody),
            Known::Charged(account) => {
                self.charge(account.key, request);
                None
            }
        };
        self.asked.push((now, asked, outcome));
        if self.asked.len() >= MAX_BATCH { self.settle().await } else { Ok(()) }
    }

    fn charge(&mut self, account: String, request: Request) {
        self.first.get_or_insert(self.now);
        let arrived = self.elapsed(self.now);
        let (request, reply) = (Arc::new(request), self.asked.len());
        // The database in memory keeps nobody waiting.
        let deadline = arrived + Duration::from_secs(1);
        self.rounds.take(Charge {
            account,
            request,
            arrived,
            deadline,
            decided_at: Some(self.now),
            listed: false,
            reply,
        });
    }

    /// The time since the first charge.
    fn elapsed(&mut self, at: i64) -> Duration {
        Duration::from_secs(at.abs_diff(*self.began.get_or_insert(at)))
    }

    /// Settles what still waits.
    pub async fn end(&mut self) -> Result<(), Failure> {
        self.settle().await
    }

    /// What was judged since this was last called, in the order of the log.
    pub fn judged(&mut self) -> Vec<Judged> {
        std::mem::take(&mut self.judged)
    }

    async fn settle(&mut self) -> Result<(), Failure> {
        if let Some(unix) = self.first.take() {
            let now = Now { elapsed: self.elapsed(self.now), unix };
            loop {
                match self.rounds.next(now) {
                    Next::Answer(answered) => {
                        if let Some((.., outcome)) = self.asked.get_mut(answered.charge.reply) {
                            *outcome = Some(outcome_of(answered));
                        }
                    }
                    Next::Settle(transaction) => {
                        let (sums, quota) = (transaction.sums, transaction.new_quota);
                        let mut decider = transaction.decider;
                        self.store.settle(sums, quota, unix, &mut decider).await?;
                        self.rounds.settled(Ok(()), now);
                    }
                    _ => break,
                }
            }
        }
        let judged =
            self.asked.drain(..).filter_map(|(at, asked, outcome)| Some(Judged { at, asked, outcome: outcome? }));
        self.judged.extend(judged);
        Ok(())
    }

    /// Goes on to a time of the log, and does on the way what is done once a minute and once a day.
    async fn pass_time(&mut self, at: i64) -> Result<(), Failure> {
        let at = at.max(self.now);
        if self.first.is_some_and(|first| minute_of(first) != minute_of(at)) {
            self.settle().await?;
        }
        if at >= self.next_cleanup {
            self.settle().await?;
            if self.next_cleanup != i64::MIN {
                self.clean_up(at).await?;
            }
            self.next_cleanup = day::next_reset(at, &self.terms.policy.zone).unwrap_or(i64::MAX);
        }
        self.now = at;
        Ok(())
    }

    /// What the packaged timer does.
    async fn clean_up(&mut self, now: i64) -> Result<(), Failure> {
        for chunk in [Chunk::Reset, Chunk::Idle { before: self.retention.idle_before(now) }] {
            let mut after = 0;
            while let Some(worked) = self.store.chunk(chunk, after).await? {
                after = worked.last;
            }
        }
        days::make(&mut self.store, now, 0).await?;
        if self.terms.policy.tells_new_networks() {
            self.store.notes_networks(now).await?;
        }
        let history = self.retention.history_before(now);
        for (aged, before) in [
            (Aged::Usage, history),
            (Aged::Parts, history),
            (Aged::Networks, self.retention.networks_before(now)),
            (Aged::Arrivals, retention::arrivals_before(now)),
            (Aged::Days, retention::days_before(now)),
        ] {
            while self.store.expire(aged, Outdated::Before(before)).await?.is_some() {}
        }
        Ok(())
    }
}

fn outcome_of(answered: Answered<usize>) -> Outcome {
    let sender = answered.charge.account;
    match (answered.verdict.decision().cloned(), answered.new) {
        (Some(decision), Some(new)) => {
            let mail = if decision.let_through { new.outstanding } else { new.increase };
            Outcome::Decided { sender, mail, decision }
        }
        (Some(decision), None) => Outcome::Again { sender, decision },
        (None, _) => Outcome::Nobody,
    }
}

/// What Postfix would have asked: where the message's size is known, at its end.
pub fn request(asked: &PastRequest) -> Request {
    let clean = |text: &str| without_controls(text.to_owned());
    Request {
        stage: match asked.recipients {
            None => Stage::Rcpt,
            Some(_) if asked.size > 0 => Stage::EndOfMessage,
            Some(_) => Stage::Data,
        },
        queue_id: QueueId::parse(&asked.queue_id),
        instance: asked.message.clone(),
        client_address: clean(&asked.client_address),
        client_name: clean(&asked.client_name),
        helo_name: String::new(),
        sasl_method: String::new(),
        sasl_username: clean(&asked.login),
        sender: clean(&asked.from),
        recipient: clean(&asked.to),
        recipient_count: asked.recipients.unwrap_or(0),
        size: asked.size,
        dry_run: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Sources};
    use crate::policy::lists::Lists;
    use jiff::tz::TimeZone;
    use proptest::prelude::*;
    use tokio::runtime::Builder;

    /// 2026-11-14 23:58 UTC: the packaged timer runs among these messages.
    const BEGIN: i64 = 1_794_700_680;

    const POLICIES: [&[(&str, &str)]; 3] = [
        &[("QUOTA", "12"), ("QUOTA_WINDOW", "reset")],
        &[("QUOTA", "9"), ("QUOTA_WINDOW", "1m"), ("QUOTA_STEPS", "0.5x NOTIFY; 1x HOLD over; 2x REJECT far over")],
        &[("QUOTA", "50"), ("LIMITS", "4 messages/1m DEFER slow; 2 networks/1h HOLD far; 9k bytes/1m DEFER much")],
    ];

    fn terms(settings: &[(&str, &str)]) -> (Terms, Retention) {
        let config = config::load(&Sources::new(None, settings.iter().copied(), false)).unwrap().config;
        (config.terms(Lists::default(), TimeZone::UTC), config.retention())
    }

    /// What comes of these messages, settled minute by minute or each at once.
    fn judged(settings: &[(&str, &str)], asked: &[(i64, PastRequest)], one_by_one: bool) -> Vec<Judged> {
        Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            let (terms, retention) = terms(settings);
            let mut trial = Trial::new(terms, retention).await.unwrap();
            for (at, asked) in asked {
                trial.ask(*at, asked.clone()).await.unwrap();
                if one_by_one {
                    trial.end().await.unwrap();
                }
            }
            trial.end().await.unwrap();
            trial.judged()
        })
    }

    /// Some seconds after the one before: who, which of its messages, from where, to how many, how large.
    fn message() -> impl Strategy<Value = (i64, PastRequest)> {
        let recipients = prop_oneof![3 => (1u32..5).prop_map(Some), 1 => Just(None)];
        (0i64..12, 0..3u8, 0..12u8, 0..4u8, recipients, 0u64..3).prop_map(
            |(later, who, what, place, recipients, size)| {
                let asked = PastRequest {
                    message: format!("{who}.{what}"),
                    login: format!("sender{who}@example.com"),
                    to: if recipients.is_none() { format!("{what}@example.org") } else { String::new() },
                    client_address: format!("10.0.{place}.1"),
                    recipients,
                    size: size * 1000,
                    ..PastRequest::default()
                };
                (later, asked)
            },
        )
    }

    /// A mail without a login from one address, so long after the beginning.
    fn mail_of_a_client(seconds: i64) -> (i64, PastRequest) {
        let message = format!("at {seconds}");
        let client_address = "192.0.2.1".to_owned();
        (BEGIN + seconds, PastRequest { message, client_address, recipients: Some(1), ..PastRequest::default() })
    }

    /// Which of these messages are held or refused.
    fn blocked(settings: &[(&str, &str)], asked: &[(i64, PastRequest)]) -> Vec<bool> {
        let judged = judged(settings, asked, true);
        let blocked = |one: &Judged| matches!(&one.outcome, Outcome::Decided { decision, .. } if decision.blocked);
        judged.iter().map(blocked).collect()
    }

    const DAY: i64 = 24 * 3600;

    #[test]
    fn who_has_no_login_is_remembered_as_long_as_the_longest_window() {
        let settings = [("LIMIT_BY", "sasl_username,client_address"), ("QUOTA", "1"), ("QUOTA_WINDOW", "14d")];
        let idle_for_8_days = [0, DAY, 9 * DAY].map(mail_of_a_client);
        assert_eq!(blocked(&settings, &idle_for_8_days), [false, true, true]);
    }

    #[test]
    fn the_timer_runs_ten_seconds_after_midnight_also_for_a_log_that_begins_just_before() {
        let settings = [("LIMIT_BY", "client_address"), ("QUOTA", "1")];
        let midnight = 120;
        let mails = [midnight + 5, midnight + 20].map(mail_of_a_client);
        assert_eq!(blocked(&settings, &mails), [false, false]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// What is settled together was still asked one after the other.
        #[test]
        fn a_minute_settled_at_once_is_judged_as_each_message_alone(
            messages in prop::collection::vec(message(), 1..60),
            policy in prop::sample::select(&POLICIES[..]),
        ) {
            let mut now = BEGIN;
            let asked: Vec<(i64, PastRequest)> = messages
                .into_iter()
                .map(|(later, asked)| {
                    now += later;
                    (now, asked)
                })
                .collect();
            prop_assert_eq!(judged(policy, &asked, false), judged(policy, &asked, true));
        }
    }
}
