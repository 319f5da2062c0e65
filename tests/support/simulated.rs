//! One of several daemons on a database, whose clock is the test's: the rounds and the store without sockets.

use std::sync::Arc;
use std::time::Duration;

use policyd_rate_guard::commit::charge::Charge;
use policyd_rate_guard::commit::rounds::{Answered, Next, Now, Rounds};
use policyd_rate_guard::commit::standings::Standings;
use policyd_rate_guard::config;
use policyd_rate_guard::limiter::decision::Decision;
use policyd_rate_guard::limiter::terms::Terms;
use policyd_rate_guard::protocol::request::{Request, Stage};
use policyd_rate_guard::store::Store;

pub struct Simulated {
    pub store: Store,
    rounds: Rounds<()>,
    /// The daemon's monotonic clock counts from here, in seconds since 1970.
    begin: i64,
}

impl Simulated {
    /// Starts at `begin`, in seconds since 1970; none that was started again begins later than it is asked.
    pub fn new(database: &config::Database, terms: &Arc<Terms>, begin: i64) -> Simulated {
        Simulated { store: Store::new(database), rounds: Rounds::new(terms.clone(), Standings::default()), begin }
    }

    /// What is decided about a message of an account, from an address, at a time in seconds since 1970, when the daemon's clock
    /// shows `at`; and whether that was judged now, and not answered as it was before.
    pub async fn ask(
        &mut self,
        account: &str,
        message: usize,
        address: &str,
        recipients: u32,
        time: i64,
        at: i64,
    ) -> (Arc<Decision>, bool) {
        let elapsed = Duration::from_secs(time.abs_diff(self.begin));
        let mut now = Now { elapsed, unix: at };
        let request = Request {
            stage: Stage::Data,
            queue_id: None,
            instance: message.to_string(),
            client_address: address.to_owned(),
            client_name: String::new(),
            helo_name: String::new(),
            sasl_method: String::new(),
            sasl_username: account.to_owned(),
            sender: String::new(),
            recipient: String::new(),
            recipient_count: recipients,
            size: 0,
            dry_run: false,
        };
        self.rounds.take(Charge {
            account: account.to_owned(),
            request: Arc::new(request),
            arrived: elapsed,
            deadline: elapsed + Duration::from_secs(5),
            decided_at: None,
            listed: false,
            reply: (),
        });
        let mut judged = false;
        loop {
            match self.rounds.next(now) {
                Next::Answer(Answered { verdict, .. }) => return (verdict.decision().unwrap().clone(), judged),
                Next::Settle(transaction) => {
                    let (sums, quota) = (transaction.sums, transaction.new_quota);
                    let mut decider = transaction.decider;
                    let settled = self.store.settle(sums, quota, at, &mut decider).await;
                    self.rounds.settled(settled, now);
                    judged = true;
                }
                // A statement that takes long on a busy machine seems to meet a lock.
                Next::FindHeld { accounts, .. } => {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    let held = self.store.locked(&accounts).await;
                    self.rounds.held(held, now);
                }
                Next::Pause(until) => now.elapsed = until,
                Next::OpenBreaker { reason, .. } => panic!("the database is here: {reason}"),
                _ => panic!("the database is here"),
            }
        }
    }
}
