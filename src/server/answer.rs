//! From a request to the answer: what needs no counting is answered here, everything else is charged.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use tokio::time::Instant;

use crate::account::{Account, Attributes};
use crate::clock;
use crate::commit::queue::Queue;
use crate::limiter::blocks::Blocks;
use crate::limiter::decision::Decision;
use crate::limiter::terms::{Known, Terms};
use crate::limiter::verdict::{FailOpen, Verdict};
use crate::notify::Notifier;
use crate::notify::event::Event;
use crate::policy::lists::Hit;
use crate::protocol::queue_id::QueueId;
use crate::protocol::reply::Action;
use crate::protocol::request::{Nonsense, Request, Stage};
use crate::telemetry::decision::{DecisionLine, escaped};
use crate::telemetry::labels::Outcome;
use crate::telemetry::log_throttle::{log_decision, warn_limited};
use crate::telemetry::metrics::Metrics;

/// The most stage names that are warned about; the network chooses them.
const MAX_STAGES: usize = 16;

/// What every connection needs to answer.
#[derive(Debug)]
pub struct Answerer {
    queue: Queue,
    terms: watch::Receiver<Arc<Terms>>,
    /// As the committer last read them.
    blocks: watch::Receiver<Arc<Blocks>>,
    pub metrics: Arc<Metrics>,
    notifier: Notifier,
    warned_stages: Mutex<HashSet<String>>,
}

/// An answer, and what is to be logged once it is sent.
#[derive(Debug)]
pub struct Answer {
    pub action: Action,
    record: Option<Record>,
}

#[derive(Debug)]
struct Record {
    request: Arc<Request>,
    what: Recorded,
}

#[derive(Debug)]
enum Recorded {
    Decided { account: String, decision: Arc<Decision>, from_memory: bool },
    Listed(Hit, Action),
}

impl Answerer {
    pub fn new(
        queue: Queue,
        terms: watch::Receiver<Arc<Terms>>,
        blocks: watch::Receiver<Arc<Blocks>>,
        metrics: Arc<Metrics>,
        notifier: Notifier,
    ) -> Answerer {
        Answerer { queue, terms, blocks, metrics, notifier, warned_stages: Mutex::default() }
    }

    /// How many requests wait for the committer.
    pub fn waiting(&self) -> usize {
        self.queue.depth()
    }

    /// Exactly one answer to each request, within DECISION_TIMEOUT.
    pub async fn answer(&self, request: Result<Box<Request>, Nonsense>) -> Answer {
        let arrived = Instant::now();
        let (outcome, answer) = self.decide(request, arrived).await;
        self.metrics.decided(outcome, answer.action.strictness(), arrived.elapsed());
        answer
    }

    async fn decide(&self, request: Result<Box<Request>, Nonsense>, arrived: Instant) -> (Outcome, Answer) {
        let terms = self.terms.borrow().clone();
        let request = match request {
            Ok(request) => Arc::<Request>::from(request),
            Err(nonsense) => {
                warn_limited("nonsense", format_args!("a policy request makes no sense: {nonsense}"));
                return self.in_doubt(FailOpen::Nonsense, &terms);
            }
        };
        if let Stage::Other(name) = &request.stage {
            self.warn_of_stage(name);
            return self.uncounted();
        }
        let attributes = Attributes {
            sasl_username: &request.sasl_username,
            sender: &request.sender,
            client_address: &request.client_address,
        };
        let local_time = || clock::timestamp().to_zoned(terms.policy.zone.clone()).datetime();
        let (account, listed) = match terms.know(&attributes, local_time) {
            Known::Listed(hit, action, None) => return Answerer::listed(request, hit, action),
            Known::Listed(hit, action, Some(account)) => (account, Some((hit, action))),
            Known::Nobody => return self.uncounted(),
            Known::Charged(account) => (account, None),
        };
        let deadline = arrived + terms.decision_timeout;
        let is_listed = listed.is_some();
        let verdict = self.queue.charge(account.key.clone(), request.clone(), is_listed, arrived, deadline).await;
        let verdict = self.unless_blocked(verdict, &account, &request, &terms);
        match (listed, verdict) {
            // A list gives way to a block, unless it is stricter.
            (Some((hit, action)), verdict)
                if verdict.decision().is_none_or(|block| block.action.strictness() < action.strictness()) =>
            {
                Answerer::listed(request, hit, action)
            }
            (_, Verdict::Counted(decision)) => Answerer::decided(request, account, decision, false),
            (_, Verdict::FromMemory(decision)) => {
                self.metrics.judged_from_memory();
                Answerer::decided(request, account, decision, true)
            }
            (_, Verdict::DryRun(decision)) => {
                (Outcome::NotCounted, Answer { action: decision.action.clone(), record: None })
            }
            (_, Verdict::InDoubt(reason)) => {
                say_in_doubt(reason, &account.key, &terms.policy.on_error);
                self.in_doubt(reason, &terms)
            }
            // Only said of what is on a list.
            (_, Verdict::NotBlocked) => self.uncounted(),
        }
    }

    /// What is in doubt is decided by a block that is known, if there is one.
    fn unless_blocked(&self, verdict: Verdict, account: &Account, request: &Request, terms: &Terms) -> Verdict {
        let Verdict::InDoubt(_) = verdict else { return verdict };
        let blocks = self.blocks.borrow();
        match blocks.find(&account.key, &request.sasl_username, &terms.accounts, clock::now()) {
            Some(block) => {
                let decision = Arc::new(Decision::of_block(block, 0, terms.policy.new_quota));
                if request.dry_run { Verdict::DryRun(decision) } else { Verdict::FromMemory(decision) }
            }
            None => verdict,
        }
    }

    fn decided(
        request: Arc<Request>,
        account: Account,
        decision: Arc<Decision>,
        from_memory: bool,
    ) -> (Outcome, Answer) {
        let outcome = if decision.blocked { Outcome::Blocked } else { Outcome::Accepted };
        let action = decision.action.clone();
        let what = Recorded::Decided { account: account.key, decision, from_memory };
        (outcome, Answer { action, record: Some(Record { request, what }) })
    }

    /// A request that a list decides is logged and not counted.
    fn listed(request: Arc<Request>, hit: Hit, action: Action) -> (Outcome, Answer) {
        let record = Some(Record { request, what: Recorded::Listed(hit, action.clone()) });
        (Outcome::NotCounted, Answer { action, record })
    }

    fn uncounted(&self) -> (Outcome, Answer) {
        (Outcome::NotCounted, Answer { action: Action::DUNNO, record: None })
    }

    /// The only place where ACTION_ON_ERROR is answered.
    fn in_doubt(&self, reason: FailOpen, terms: &Terms) -> (Outcome, Answer) {
        self.metrics.fail_open(reason);
        (Outcome::InDoubt, Answer { action: terms.policy.on_error.clone(), record: None })
    }

    /// Most reports of "it limits nothing" are a check at the wrong stage. Said once per stage.
    fn warn_of_stage(&self, name: &str) {
        let mut warned = self.warned_stages.lock().unwrap_or_else(PoisonError::into_inner);
        if warned.len() < MAX_STAGES && warned.insert(name.to_owned()) {
            log::warn!(
                "Postfix asks at stage {name:?}, where there are no recipients to count: such a check limits nothing. Put \
                 check_policy_service into smtpd_data_restrictions"
            );
        }
    }
}

fn say_in_doubt(reason: FailOpen, account: &str, answered: &Action) {
    let answered = if answered.delivers() { "let through" } else { "answered with ACTION_ON_ERROR" };
    warn_limited(
        reason.name(),
        format_args!(
            "{}: {answered} without being counted for certain: {reason} ({})",
            escaped(account),
            reason.name()
        ),
    );
}

impl Answerer {
    /// Logs the decision and has people told. After the reply is sent: neither delays anybody.
    pub fn follow_up(&self, answer: Answer) {
        if let Some(Record { request, what: Recorded::Decided { account, decision, from_memory: false } }) =
            &answer.record
            && Event::is_in(decision)
        {
            let at = clock::now();
            Event::of(account, request, decision, at).into_iter().for_each(|event| self.notifier.tell(|| event));
        }
        answer.log();
    }
}

impl Answer {
    fn log(self) {
        let Some(Record { request, what }) = self.record else { return };
        let line = DecisionLine {
            queue_id: request.queue_id.as_ref().map_or("", QueueId::as_str),
            client_name: &request.client_name,
            client_address: &request.client_address,
            helo_name: &request.helo_name,
            sasl_method: &request.sasl_method,
            sasl_username: &request.sasl_username,
            from: &request.sender,
            to: &request.recipient,
            recipient_count: request.recipient_count,
            ..DecisionLine::default()
        };
        match what {
            Recorded::Decided { account, decision, from_memory } => {
                for step in &decision.reached {
                    let (account, used, quota) = (escaped(&account), decision.used, decision.quota);
                    log::warn!("{account} has reached {step} of the quota: {used} of {quota}");
                }
                let word = decision.action.word();
                log_decision(&account, line.decided(&decision, &word, from_memory));
            }
            Recorded::Listed(hit, action) => {
                let (word, reason) = (action.word(), hit.to_string());
                log_decision(&reason, line.listed(hit.list, &word, &reason));
            }
        }
    }
}
