//! `held release --by-quota`: what the quota held goes on, the oldest first, as far as there is room for it now.
//!
//! A message that is released is sent now, so it is counted now, in a transaction like that of any other message and by the same
//! limits and blocks: no window ever has more than its quota, whatever else the sender sends meanwhile on whatever host. The
//! database must answer: nothing goes on trust here.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::account::Attributes;
use crate::clock;
use crate::commit::charge::Charge;
use crate::commit::rounds::{Next, Now, Rounds};
use crate::commit::standings::Standings;
use crate::exit::{Exit, Failed};
use crate::limiter::terms::{Known, Terms};
use crate::limiter::verdict::Verdict;
use crate::protocol::reply::Strictness;
use crate::protocol::request::{Request, Stage};
use crate::queue::matching::Found;
use crate::store::Store;

/// How long a transaction may wait for others.
const PATIENCE: Duration = Duration::from_secs(2);

/// Counts the messages that go on.
pub struct Room<'a> {
    store: &'a mut Store,
    terms: Arc<Terms>,
    rounds: Rounds<()>,
    began: Instant,
    /// Accounts that have no room now: what came later must not go first.
    full: HashSet<String>,
}

impl<'a> Room<'a> {
    pub fn new(store: &'a mut Store, terms: Terms) -> Room<'a> {
        // The message has its audit row already.
        let terms = Arc::new(Terms { message_log: false, ..terms });
        let rounds = Rounds::new(terms.clone(), Standings::default());
        Room { store, terms, rounds, began: Instant::now(), full: HashSet::new() }
    }

    /// Whether there is room for a message now. If so, it is counted. To be asked for the oldest message first.
    pub async fn takes(&mut self, one: &Found) -> Result<bool, Failed> {
        if self.full.contains(&one.account) {
            return Ok(false);
        }
        // First without counting: what would be held again would count all the same.
        let takes = self.would_pass(one, true).await? && self.would_pass(one, false).await?;
        if !takes {
            self.full.insert(one.account.clone());
        }
        Ok(takes)
    }

    async fn would_pass(&mut self, one: &Found, dry_run: bool) -> Result<bool, Failed> {
        let request = request(one, dry_run);
        let attributes =
            Attributes { sasl_username: &request.sasl_username, sender: &request.sender, client_address: "" };
        let unix = clock::now();
        let zone = self.terms.policy.zone.clone();
        let local_time = || Timestamp::from_second(unix).unwrap_or_default().to_zoned(zone).datetime();
        // A list, or LIMIT_BY, may have changed since: then it is a person's to say.
        match self.terms.know(&attributes, local_time) {
            Known::Charged(account) if account.key == one.account => {}
            _ => return Ok(false),
        }
        let arrived = self.began.elapsed();
        self.rounds.take(Charge {
            account: one.account.clone(),
            request: Arc::new(request),
            arrived,
            deadline: arrived + PATIENCE,
            decided_at: None,
            listed: false,
            reply: (),
        });
        let now = Now { elapsed: arrived, unix };
        loop {
            match self.rounds.next(now) {
                Next::Answer(answered) => return Ok(passes(&answered.verdict)),
                Next::Settle(transaction) => {
                    let (sums, new_quota, mut decider) = (transaction.sums, transaction.new_quota, transaction.decider);
                    let settled = self.store.settle(sums, new_quota, unix, &mut decider).await;
                    settled.map_err(|failure| {
                        Failed::new(Exit::Unavailable, format_args!("{}: {failure}", self.store.place()))
                    })?;
                    self.rounds.settled(Ok(()), now);
                }
                _ => return Err(Failed::new(Exit::Software, "a message was not decided")),
            }
        }
    }
}

fn passes(verdict: &Verdict) -> bool {
    verdict.decision().is_some_and(|decision| decision.action.strictness() < Strictness::Hold)
}

/// The message as Postfix would ask about it, if it came now from nowhere: no network is charged with it.
fn request(one: &Found, dry_run: bool) -> Request {
    Request {
        stage: Stage::Data,
        queue_id: Some(one.id.clone()),
        // Never a repeat.
        instance: String::new(),
        client_address: String::new(),
        client_name: String::new(),
        helo_name: String::new(),
        sasl_method: String::new(),
        // A login that begins like a key of another kind is escaped in its key.
        sasl_username: one.account.strip_prefix('\\').unwrap_or(&one.account).to_owned(),
        sender: one.from.clone(),
        recipient: String::new(),
        recipient_count: u32::try_from(one.recipients).unwrap_or(u32::MAX),
        size: 0,
        dry_run,
    }
}
