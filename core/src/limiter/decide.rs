//! The decision: what a request adds, the standing of its account, and what Postfix is told.
//!
//! All limits are judged for each request, and the strictest action of those exceeded wins; of equally strict ones the quota
//! first, then the limits as written.

use std::borrow::Cow;
use std::time::Duration;

use ipnet::IpNet;
use jiff::tz::TimeZone;

use super::day;
use super::decision::{Decision, Reason};
use super::history::{History, Reach};
use super::increase::Increase;
use super::moment;
use super::window;
use crate::policy::duration;
use crate::policy::limit::{self, Limit, Measure, Per};
use crate::policy::quota::Window;
use crate::policy::steps::Steps;
use crate::policy::text::{self, Values};
use crate::protocol::reply::{Action, Strictness};

/// The operator's policy, as far as decisions need it.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// The quota of an account without a row of its own.
    pub new_quota: u32,
    pub window: Window,
    pub steps: Steps,
    pub limits: Vec<Limit>,
    pub networks_ignore: Vec<IpNet>,
    pub accepted: Action,
    pub on_error: Action,
    /// For the times in texts.
    pub zone: TimeZone,
}

impl Policy {
    /// See [`limit::longest_window`].
    pub fn longest_window(&self) -> Option<Duration> {
        limit::longest_window(self.window, &self.limits)
    }

    /// See [`window::exact_for`].
    pub fn exact(&self) -> Duration {
        window::exact_for(limit::windows(self.window, &self.limits))
    }

    /// Whether a decision looks at networks.
    pub fn counts_networks(&self) -> bool {
        self.limits.iter().any(|limit| limit.measure == Measure::Networks || limit.measure.is_from_new_networks())
    }

    /// Whether a decision asks which networks are new.
    pub fn tells_new_networks(&self) -> bool {
        self.limits.iter().any(|limit| limit.measure.is_from_new_networks())
    }

    /// Whether a decision depends on what was learnt about its account.
    pub fn learns(&self) -> bool {
        self.limits.iter().any(Limit::learns)
    }

    /// The history that a decision looks at. None if it needs counters alone.
    pub fn reach(&self) -> Option<Reach> {
        let window = self.longest_window()?;
        let networks = Reach::of_networks(self.counts_networks().then_some(window), self.tells_new_networks());
        Some(Reach { window, exact: self.exact(), networks, learns: self.learns() })
    }

    /// Whether a decision looks at bytes.
    pub fn counts_bytes(&self) -> bool {
        self.limits.iter().any(|limit| limit.measure == Measure::Bytes)
    }
}

/// What a decision needs of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts<'a> {
    pub account: &'a str,
    /// What it adds to the counters: the part of the message that no earlier request asked about.
    pub increase: Increase,
    /// The part of the message that was not let through before: limits are checked against it, and it is added to windows if
    /// it is let through. More than the increase if an earlier request of the same message was refused.
    pub outstanding: Increase,
    /// All recipients that the message would then have.
    pub recipients_of_message: u32,
    /// The client's network. None if it is not counted.
    pub network: Option<IpNet>,
    /// Unix seconds.
    pub now: i64,
}

/// The standing of an account before a request. A batch updates it, request by request, in the order of arrival.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    pub quota: u32,
    pub messages: u32,
    pub recipients: u32,
    pub history: History,
}

impl Standing {
    /// What stood before `added` made `after` of it. A counter at its maximum stays there: it has lost count, and its
    /// account stays over any quota.
    pub fn before(after: u32, added: u64) -> u32 {
        match after {
            u32::MAX => u32::MAX,
            after => u32::try_from(u64::from(after).saturating_sub(added)).unwrap_or(0),
        }
    }

    /// An account of which nothing is known.
    pub fn new(quota: u32) -> Standing {
        Standing { quota, messages: 0, recipients: 0, history: History::default() }
    }

    /// How much of this limit the account may use. None if it has no such limit, or if that depends on what is not known.
    pub fn allowed(&self, limit: &Limit) -> Option<u64> {
        let Per::Window(window) = limit.per else { return limit.allowed(self.quota, None) };
        limit.allowed(self.quota, self.history.usual().and_then(|usual| usual.peaks.of(limit.measure, window)))
    }

    /// Whether this limit only warns, because too little was learnt yet.
    pub fn only_warns(&self, limit: &Limit, now: i64) -> bool {
        let acts_from = || self.history.usual().and_then(|usual| usual.acts_from(limit));
        limit.learns() && acts_from().is_none_or(|acts_from| now < acts_from)
    }
}

/// A limit that is exceeded.
struct Exceeded<'a> {
    action: Cow<'a, Action>,
    is_quota: bool,
    /// As it stands in logs.
    limit: String,
    used: u64,
    allowed: u64,
    unit: &'static str,
    per: Span,
    amount: u64,
}

/// The time that an exceeded limit is for.
#[derive(Clone, Copy)]
enum Span {
    Reset,
    Message,
    Window(Duration, Measure),
}

/// Counts the request on `standing` and decides by the result. Only the measures of which something is outstanding are
/// judged: a request that adds recipients to a message is not refused for messages.
pub fn decide(policy: &Policy, standing: &mut Standing, facts: &Facts<'_>) -> Decision {
    let Facts { increase, outstanding, now, .. } = *facts;
    let before = quota_used(policy, standing, Increase { messages: 1, recipients: 1, bytes: 0 }, now);
    standing.messages = standing.messages.saturating_add(increase.messages);
    standing.recipients = standing.recipients.saturating_add(increase.recipients);
    let from_new_network =
        policy.tells_new_networks() && facts.network.is_some_and(|network| standing.history.is_new(&network, now));
    if let Some(network) = facts.network {
        standing.history.see(network, now);
    }
    let quota = standing.quota;
    let added = match policy.window {
        Window::Reset => 0,
        Window::Sliding(_) => u64::from(outstanding.recipients.max(outstanding.messages)),
    };
    let used = quota_used(policy, standing, outstanding, now).saturating_add(added);

    let judged = policy.limits.iter().filter(|limit| from_new_network || !limit.measure.is_from_new_networks());
    let limits = judged.filter_map(|limit| exceeds(limit, standing, facts));
    let exceeded: Vec<Exceeded<'_>> = exceeds_quota(policy, quota, used, facts).into_iter().chain(limits).collect();
    let strictest = exceeded.iter().map(|limit| limit.action.strictness()).max();
    // The first of the strictest: the quota stands first, then the limits as written.
    let decisive = exceeded.iter().find(|limit| Some(limit.action.strictness()) == strictest);
    let action = decisive.map_or_else(|| policy.accepted.clone(), |limit| worded(limit, policy, standing, facts));
    let strictness = action.strictness();
    let (blocked, let_through) = (strictness >= Strictness::Hold, strictness <= Strictness::Hold);
    let would = exceeded
        .iter()
        .filter(|limit| limit.action.strictness() == Strictness::Warn)
        .map(|limit| limit.reason().to_string());
    let would: Vec<String> = would.collect();
    let was_blocked = standing.history.blocked.any()
        || match policy.window {
            Window::Reset => policy.steps.acting(before, quota).is_some(),
            Window::Sliding(_) => false,
        };
    let reached = policy
        .steps
        .telling(used, quota)
        .filter(|step| !step.exceeded(before, quota))
        .map(crate::policy::steps::Step::factor_written)
        .collect();
    let reason = decisive.filter(|_| strictness > Strictness::Warn).map(Exceeded::reason);
    if let_through {
        standing.history.add(outstanding, now);
        if from_new_network {
            standing.history.add_new(outstanding, now);
        }
    }
    standing.history.blocked.note(outstanding, blocked);
    Decision {
        action,
        blocked,
        first_block: blocked && !was_blocked,
        used,
        quota,
        reason,
        would: (!would.is_empty()).then(|| would.join("; ")),
        reached,
        let_through,
        from_new_network,
    }
}

/// What is used of the quota: of messages and recipients the greater, each only if something of it is outstanding.
fn quota_used(policy: &Policy, standing: &Standing, outstanding: Increase, now: i64) -> u64 {
    let (messages, recipients) = match policy.window {
        Window::Reset => (u64::from(standing.messages), u64::from(standing.recipients)),
        Window::Sliding(window) => (
            standing.history.used(Measure::Messages, window, now),
            standing.history.used(Measure::Recipients, window, now),
        ),
    };
    let judged = |used: u64, outstanding: u32| if outstanding > 0 { used } else { 0 };
    judged(messages, outstanding.messages).max(judged(recipients, outstanding.recipients))
}

fn exceeds_quota<'a>(policy: &'a Policy, quota: u32, used: u64, facts: &Facts<'_>) -> Option<Exceeded<'a>> {
    let (step, action) = policy.steps.acting(used, quota)?;
    Some(Exceeded {
        action: Cow::Borrowed(action),
        is_quota: true,
        limit: format!("{} quota {quota}", step.factor_written()),
        used,
        allowed: step.allowed(quota).unwrap_or(u64::MAX),
        unit: "recipients",
        per: match policy.window {
            Window::Reset => Span::Reset,
            Window::Sliding(window) => Span::Window(window, Measure::Recipients),
        },
        amount: facts.outstanding.recipients.into(),
    })
}

fn exceeds<'a>(limit: &'a Limit, standing: &Standing, facts: &Facts<'_>) -> Option<Exceeded<'a>> {
    let Increase { messages, recipients, bytes } = facts.outstanding;
    let outstanding = match limit.measure {
        Measure::Recipients | Measure::NewRecipients => recipients.into(),
        Measure::Messages | Measure::NewMessages => messages.into(),
        Measure::Bytes => bytes,
        // Every mail counts as one more from where it comes; its network is noted already.
        Measure::Networks => u64::from(messages.max(recipients)),
    };
    if outstanding == 0 {
        return None;
    }
    let (used, per) = match limit.per {
        Per::Message => (u64::from(facts.recipients_of_message), Span::Message),
        Per::Window(window) => {
            let held = standing.history.used(limit.measure, window, facts.now);
            let added = if limit.measure == Measure::Networks { 0 } else { outstanding };
            (held.saturating_add(added), Span::Window(window, limit.measure))
        }
    };
    let allowed = standing.allowed(limit).filter(|allowed| used > *allowed)?;
    let only_warns = standing.only_warns(limit, facts.now);
    Some(Exceeded {
        action: if only_warns { Cow::Owned(limit.action.as_warning()) } else { Cow::Borrowed(&limit.action) },
        is_quota: false,
        limit: limit.written.clone(),
        used,
        allowed,
        unit: limit.measure.name(),
        per,
        amount: if limit.measure == Measure::Networks { 0 } else { outstanding },
    })
}

impl Exceeded<'_> {
    fn reason(&self) -> Reason {
        Reason::Limit { limit: self.limit.clone(), used: self.used, is_quota: self.is_quota }
    }
}

/// The action with the placeholders of its text filled in.
fn worded(limit: &Exceeded<'_>, policy: &Policy, standing: &Standing, facts: &Facts<'_>) -> Action {
    if !limit.action.text().contains('{') {
        return limit.action.clone().into_owned();
    }
    let free_at = match limit.per {
        Span::Message => None,
        Span::Reset => day::next_reset(facts.now, &policy.zone).and_then(|at| moment::with_offset(at, &policy.zone)),
        Span::Window(window, measure) => {
            let free = standing.history.free_at(measure, window, limit.allowed, limit.amount, facts.now);
            free.and_then(|at| moment::with_offset(at, &policy.zone))
        }
    };
    let window = match limit.per {
        Span::Reset => "day".to_owned(),
        Span::Message => "message".to_owned(),
        Span::Window(window, _) => duration::show(window),
    };
    limit.action.with_text(&text::fill(
        limit.action.text(),
        &Values {
            sender: facts.account,
            used: limit.used,
            quota: limit.allowed,
            unit: limit.unit,
            window: &window,
            free_at: free_at.as_deref().unwrap_or("never"),
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limiter::history::Seen;
    use crate::limiter::usual::{self, Peaks, Sums, Usual};
    use crate::policy::limits;
    use crate::policy::quota::UNLIMITED;
    use proptest::prelude::*;

    const NOON: i64 = 1_800_014_400; // 2027-01-15 12:00 UTC
    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn policy(window: Window, steps: &str, limits: &str) -> Policy {
        let text = "Rate limit reached, retry later.";
        Policy {
            new_quota: 1000,
            window,
            steps: Steps::parse(steps, text).unwrap(),
            limits: limits::parse(limits, text).unwrap(),
            networks_ignore: Vec::new(),
            accepted: Action::DUNNO,
            on_error: Action::DUNNO,
            zone: TimeZone::UTC,
        }
    }

    fn facts(messages: u32, recipients: u32, now: i64) -> Facts<'static> {
        Facts {
            account: "alice@example.com",
            increase: Increase { messages, recipients, bytes: 0 },
            outstanding: Increase { messages, recipients, bytes: 0 },
            recipients_of_message: recipients,
            network: None,
            now,
        }
    }

    #[test]
    fn a_quota_of_n_lets_n_through() {
        let policy = policy(Window::Reset, "", "");
        let mut standing = Standing::new(3);
        let decisions: Vec<_> = (0..5)
            .map(|_| decide(&policy, &mut standing, &facts(1, 1, NOON)))
            .map(|decision| (decision.blocked, decision.first_block))
            .collect();
        assert_eq!(decisions, [(false, false), (false, false), (false, false), (true, true), (true, false)]);
        assert_eq!(standing.recipients, 5, "counted over quota too");
    }

    #[test]
    fn a_message_that_would_go_over_is_blocked_as_a_whole() {
        let mut standing = Standing { messages: 1, recipients: 8, ..Standing::new(10) };
        let decision = decide(&policy(Window::Reset, "", ""), &mut standing, &facts(1, 3, NOON));
        assert!(decision.blocked && decision.first_block);
        assert_eq!((decision.used, decision.quota), (11, 10));
    }

    #[test]
    fn zero_may_not_send_and_unlimited_always_may() {
        let policy = policy(Window::Reset, "", "");
        assert!(decide(&policy, &mut Standing::new(0), &facts(1, 1, NOON)).first_block);
        let mut unlimited = Standing { messages: u32::MAX, recipients: u32::MAX, ..Standing::new(UNLIMITED) };
        assert!(!decide(&policy, &mut unlimited, &facts(1, 9, NOON)).blocked);
    }

    #[test]
    fn a_counter_at_its_end_stays_there() {
        assert_eq!(Standing::before(u32::MAX, 5), u32::MAX);
        assert_eq!(Standing::before(7, 5), 2);
        assert_eq!(Standing::before(2, 5), 0, "somebody reset it meanwhile");
    }

    #[test]
    fn only_what_is_outstanding_is_judged() {
        let policy = policy(Window::Reset, "", "");
        let mut standing = Standing { messages: 6, recipients: 1, ..Standing::new(5) };
        assert!(!decide(&policy, &mut standing, &facts(0, 1, NOON)).blocked);
        assert!(decide(&policy, &mut standing, &facts(1, 0, NOON)).blocked);
    }

    /// policyd's behaviour: bursts of 9 recipients against a quota of 1,500.
    #[test]
    fn policyds_ladder_holds_then_rejects_then_frees() {
        let policy = policy(Window::Sliding(DAY), "1x HOLD quota exceeded; 2x REJECT max quota exceeded", "");
        let mut standing = Standing::new(1500);
        let (mut passed, mut held, mut rejected) = (0, 0, 0);
        for burst in 0..400 {
            let decision = decide(&policy, &mut standing, &facts(1, 9, NOON + burst));
            match decision.action.word().as_str() {
                "DUNNO" => passed += 9,
                "HOLD" => held += 9,
                "REJECT" => rejected += 9,
                other => panic!("{other}"),
            }
        }
        assert_eq!((passed, held), (1494, 1503), "up to 1,500 pass, up to 3,000 are held in all");
        assert_eq!(passed + held + rejected, 3600);
        let freed = decide(&policy, &mut standing, &facts(1, 9, NOON + 400 + 24 * 3600 + 60));
        assert_eq!(freed.action, Action::DUNNO, "the window has passed");
    }

    #[test]
    fn the_ninth_network_is_held() {
        let policy = policy(Window::Sliding(DAY), "", "8 networks/10m HOLD");
        let mut standing = Standing::new(1500);
        for number in 0..12u8 {
            let network = Some(format!("192.0.{number}.0/24").parse().unwrap());
            let decision = decide(&policy, &mut standing, &Facts { network, ..facts(1, 9, NOON) });
            assert_eq!(decision.blocked, number >= 8, "{number}");
        }
        let later = decide(&policy, &mut standing, &facts(1, 1, NOON + 660));
        assert!(!later.blocked, "after the window");
    }

    /// What a database knows that has learnt for so many days.
    fn learnt(days: i64, recipients: u64) -> Usual {
        let today = usual::today(NOON);
        let peaks = Peaks { hour: Sums { messages: 1, recipients }, ..Peaks::default() };
        Usual { today, first_day: Some(today - days), networks_since: Some(NOON - days * 86400), peaks }
    }

    fn standing(usual: Option<Usual>, networks: &[(&str, i64)]) -> Standing {
        let seen = |at: i64| Seen { first: at, last: at };
        let networks = networks.iter().map(|(net, at)| (net.parse().unwrap(), seen(*at))).collect();
        let history = History::new(Vec::new(), Vec::new(), networks, usual, 0);
        Standing { history, ..Standing::new(1000) }
    }

    const UNUSUAL: &str = "3x usual recipients/1h min 50 HOLD {used} of {quota}";

    #[test]
    fn three_times_what_is_usual_passes_and_one_more_is_held() {
        let policy = policy(Window::Reset, "", UNUSUAL);
        for (usual, allowed) in [(0, 50), (16, 50), (17, 51), (100, 300)] {
            let mut standing = standing(Some(learnt(14, usual)), &[]);
            assert_eq!(decide(&policy, &mut standing, &facts(1, allowed, NOON)).action, Action::DUNNO, "{usual}");
            let held = decide(&policy, &mut standing, &facts(1, 1, NOON));
            assert_eq!(held.action.to_string(), format!("HOLD {} of {allowed}", allowed + 1));
            let reason = held.reason.as_ref().map(ToString::to_string);
            assert_eq!(reason, Some(format!("3x usual recipients/1h min 50: {}", allowed + 1)));
            assert!(held.is_held());
        }
    }

    #[test]
    fn until_fourteen_days_are_known_it_only_warns_and_what_is_not_known_stops_nobody() {
        let policy = policy(Window::Reset, "", UNUSUAL);
        let ask = |usual| decide(&policy, &mut standing(usual, &[]), &facts(1, 51, NOON));
        let warned = ask(Some(learnt(13, 0)));
        assert_eq!((warned.action.to_string().as_str(), warned.blocked), ("WARN 51 of 50", false));
        assert_eq!(warned.would.as_deref(), Some("3x usual recipients/1h min 50: 51"));
        assert_eq!(ask(Some(Usual { first_day: None, ..learnt(14, 0) })).action.word(), "WARN");
        assert_eq!(ask(None).action, Action::DUNNO);
        assert_eq!(ask(Some(learnt(14, 0))).action.word(), "HOLD");
    }

    #[test]
    fn a_wave_from_new_networks_is_held_and_mail_from_known_ones_goes_on() {
        let policy = policy(Window::Reset, "", "15 recipients/1h from new networks HOLD new places");
        let home = "192.0.2.0/24";
        let mut standing = standing(Some(learnt(14, 0)), &[(home, NOON - 5 * 86400)]);
        let from = |network: String| Facts { network: Some(network.parse().unwrap()), ..facts(1, 1, NOON) };
        let passed = (0..200).filter(|place| {
            let decision = decide(&policy, &mut standing, &from(format!("10.0.{place}.0/24")));
            assert!(decision.from_new_network);
            !decision.blocked
        });
        assert_eq!(passed.count(), 15);
        assert_eq!(decide(&policy, &mut standing, &from(home.to_owned())).action, Action::DUNNO);
        let unknown = Facts { network: None, ..facts(1, 1, NOON) };
        assert_eq!(decide(&policy, &mut standing, &unknown).action, Action::DUNNO, "NETWORKS_IGNORE, or no address");
        assert_eq!(standing.history.used(Measure::NewRecipients, DAY, NOON), 200, "what is held counts");
    }

    #[test]
    fn who_was_seen_nowhere_yet_has_no_new_networks() {
        let policy = policy(Window::Reset, "", "1 recipient/1h from new networks HOLD");
        let mut standing = standing(Some(learnt(14, 0)), &[]);
        for place in 0..9u8 {
            let network = Some(format!("10.0.{place}.0/24").parse().unwrap());
            assert!(!decide(&policy, &mut standing, &Facts { network, ..facts(1, 9, NOON) }).blocked);
        }
    }

    #[test]
    fn the_strictest_exceeded_limit_wins_and_a_warning_is_a_dry_run() {
        let policy =
            policy(Window::Reset, "", "2 recipients/1h WARN many; 4 recipients/1h; 6 recipients/1h REJECT too many");
        let mut standing = Standing::new(1000);
        let mut ask = |recipients| decide(&policy, &mut standing, &facts(1, recipients, NOON));
        let warned = ask(3);
        assert_eq!((warned.action.to_string().as_str(), warned.blocked), ("WARN many", false));
        assert_eq!(warned.would.as_deref(), Some("2 recipients/1h: 3"));
        let deferred = ask(2);
        assert_eq!(
            (deferred.action.word().as_str(), deferred.reason.map(|reason| reason.to_string()).as_deref()),
            ("DEFER_IF_PERMIT", Some("4 recipients/1h: 5"))
        );
        assert_eq!(ask(4).action.word(), "REJECT", "3 were let through, 7 are too many");
        assert_eq!(ask(1).action.word(), "WARN", "what was refused does not count");
    }

    #[test]
    fn what_was_refused_is_judged_again_with_what_is_asked_for_then() {
        let policy = policy(Window::Sliding(DAY), "", "");
        let mut standing = Standing::new(10);
        assert!(!decide(&policy, &mut standing, &facts(1, 2, NOON)).blocked);
        assert!(decide(&policy, &mut standing, &facts(1, 9, NOON)).blocked);
        // One recipient more than what was refused.
        let again = Facts { increase: Increase { recipients: 1, ..Increase::default() }, ..facts(1, 10, NOON) };
        assert!(decide(&policy, &mut standing, &again).blocked, "12 of 10");
        assert_eq!(standing.recipients, 12, "counters count what is asked for");
        let within = Facts { increase: Increase::default(), ..facts(1, 8, NOON) };
        assert!(!decide(&policy, &mut standing, &within).blocked);
        assert_eq!(standing.history.used(Measure::Recipients, DAY, NOON), 10, "windows hold what is let through");
    }

    #[test]
    fn content_that_passes_does_not_end_a_block_and_mail_that_passes_does() {
        let policy = policy(Window::Sliding(DAY), "1x HOLD full", "");
        let mut standing = Standing::new(1);
        let content = Facts {
            increase: Increase { bytes: 500, ..Increase::default() },
            outstanding: Increase { bytes: 500, ..Increase::default() },
            ..facts(0, 0, NOON)
        };
        let mut firsts = Vec::new();
        for _ in 0..3 {
            firsts.push(decide(&policy, &mut standing, &facts(1, 1, NOON)).first_block);
            decide(&policy, &mut standing, &content);
        }
        assert_eq!(firsts, [false, true, false]);
        let bytes = policy_of_bytes();
        let mut standing = Standing::new(1000);
        let mut firsts = Vec::new();
        for _ in 0..4 {
            firsts.push(decide(&bytes, &mut standing, &facts(1, 1, NOON)).first_block);
            firsts.push(decide(&bytes, &mut standing, &content).first_block);
        }
        assert_eq!(firsts, [false, false, false, false, false, true, false, false]);
    }

    fn policy_of_bytes() -> Policy {
        policy(Window::Sliding(DAY), "", "1000 bytes/1h HOLD much")
    }

    #[test]
    fn a_limit_per_message_judges_all_its_recipients() {
        let policy = policy(Window::Reset, "", "3 recipients/message REJECT too many");
        let ask = Facts { recipients_of_message: 4, ..facts(0, 1, NOON) };
        assert_eq!(decide(&policy, &mut Standing::new(1000), &ask).action.word(), "REJECT");
    }

    #[test]
    fn placeholders_say_when_there_is_room_again() {
        let window = Window::Sliding(Duration::from_secs(3600));
        let sliding = policy(window, "1x DEFER {used} of {quota} {unit} in {window}, free at {free_at}", "");
        let mut standing = Standing::new(2);
        decide(&sliding, &mut standing, &facts(1, 2, NOON));
        let refused = decide(&sliding, &mut standing, &facts(1, 1, NOON + 60));
        assert_eq!(refused.action.text(), "3 of 2 recipients in 1h, free at 2027-01-15 13:01 +00:00");
        let reset = policy(Window::Reset, "1x DEFER free at {free_at}", "");
        let refused = decide(&reset, &mut Standing::new(0), &facts(1, 1, NOON));
        assert_eq!(refused.action.text(), "free at 2027-01-16 00:00 +00:00");
    }

    #[test]
    fn a_step_that_tells_is_reached_once() {
        let policy = policy(Window::Reset, "0.8x NOTIFY; 1x HOLD full", "");
        let mut standing = Standing::new(10);
        let reached: Vec<usize> =
            (0..12).map(|_| decide(&policy, &mut standing, &facts(1, 1, NOON)).reached.len()).collect();
        assert_eq!(reached, [0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]);
    }

    proptest! {
        #[test]
        fn what_is_let_through_never_exceeds_the_quota(quota in 0u32..500, sizes in proptest::collection::vec(1u32..60, 1..80)) {
            for window in [Window::Reset, Window::Sliding(DAY)] {
                let policy = policy(window, "", "");
                let mut standing = Standing::new(quota);
                let mut through = 0;
                for &size in &sizes {
                    if !decide(&policy, &mut standing, &facts(1, size, NOON)).blocked {
                        through += size;
                    }
                }
                prop_assert!(through <= quota);
            }
        }

        /// Against a plain list of events: never more than the quota in any window, at most a minute stricter. A sender that
        /// keeps retrying is free at the same moment as one that waits.
        #[test]
        fn a_sliding_window_is_exact(
            quota in 1u32..60,
            minutes in 1u64..6,
            steps in proptest::collection::vec((0i64..90, 1u32..20), 1..120),
        ) {
            let window = minutes * 60;
            let policy = policy(Window::Sliding(Duration::from_secs(window)), "", "");
            let mut standing = Standing::new(quota);
            let mut through: Vec<(i64, u32)> = Vec::new();
            let mut now = NOON;
            for (pause, size) in steps {
                now += pause;
                let held = |length: i64, events: &[(i64, u32)]| -> u32 {
                    events.iter().filter(|(at, _)| *at > now - length).map(|(_, size)| size).sum()
                };
                let mut patient = standing.clone();
                let decision = decide(&policy, &mut standing, &facts(1, size, now));
                if decision.blocked {
                    prop_assert!(held(window as i64 + 60, &through) + size > quota, "more than a minute stricter");
                    patient.history.blocked = standing.history.blocked;
                    prop_assert_eq!(&patient.history, &standing.history, "a refusal leaves no trace");
                } else {
                    through.push((now, size));
                    prop_assert!(held(window as i64, &through) <= quota, "more than the quota in a window");
                }
            }
        }
    }
}
