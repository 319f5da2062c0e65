//! Judges by a whole policy, with the function that decides live.

use super::month;
use super::streams::Sum;
use super::sweep::Log;
use super::walk::{Walk, mail};
use super::wave::{Wave, begin, each_minute};
use crate::limiter::decide::Policy;
use crate::limiter::history::Reach;
use crate::limiter::increase::Increase;

/// A policy to judge by.
#[derive(Debug, Clone)]
pub struct Judge {
    policy: Policy,
    reach: Option<Reach>,
    log: Log,
}

/// What a policy did to one account.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Touched {
    /// In how many months the account sent something, since all of the policy acted.
    pub months: u32,
    /// In how many of these something was held or refused.
    pub touched: u32,
}

impl Judge {
    pub fn new(policy: Policy, log: Log) -> Judge {
        Judge { reach: policy.reach(), policy, log }
    }

    /// From when on all of the policy acts, in Unix seconds.
    fn judged_from(&self) -> i64 {
        self.log.acts_from().filter(|_| self.policy.learns()).unwrap_or(self.log.begin)
    }

    /// Judges the mail of an account, which may have a quota of its own.
    pub fn touched(&self, sums: &[Sum], quota: Option<u32>) -> Touched {
        let mut walk = self.walk(quota);
        let (mut judged, mut last, mut last_touched) = (Touched::default(), None, None);
        for sum in sums {
            let blocked = self.own(&mut walk, sum);
            if sum.at() < self.judged_from() {
                continue;
            }
            let month = Some(month(self.judged_from(), sum.at()));
            judged.months += u32::from(last != month);
            last = month;
            if blocked {
                judged.touched += u32::from(last_touched != month);
                last_touched = month;
            }
        }
        judged
    }

    /// Returns how many recipients of a wave pass that begins at a time in Unix seconds.
    pub fn passed(&self, wave: Wave, sums: &[Sum], quota: Option<u32>, at: i64) -> u32 {
        let own = |walk: &mut Walk, sum: &Sum| {
            self.own(walk, sum);
        };
        let begin = begin(self.walk(quota), sums, at, own);
        let (mut passed, mut whole) = (0, true);
        each_minute(wave, begin, own, |walk, group, now| {
            self.pass_to(walk, now);
            let network = group.arrive(walk, now);
            let asks = |walk: &mut Walk, messages: u32| {
                let mail = Increase { messages, recipients: messages, bytes: 0 };
                !walk.ask(&self.policy, network, mail, 1, now).blocked
            };
            // All at once as long as all pass.
            if whole && group.messages > 1 {
                let mut tried = walk.clone();
                if asks(&mut tried, group.messages) {
                    *walk = tried;
                    passed += group.messages;
                    return;
                }
            }
            let singly = (0..group.messages).take_while(|_| asks(walk, 1)).count();
            let singly = u32::try_from(singly).unwrap_or(u32::MAX);
            passed += singly;
            whole = singly == group.messages;
            let rest = group.messages.saturating_sub(singly + 1);
            if rest > 0 {
                asks(walk, rest);
            }
        });
        passed
    }

    fn walk(&self, quota: Option<u32>) -> Walk {
        Walk::new(quota.unwrap_or(self.policy.new_quota), self.log.first_day())
    }

    fn pass_to(&self, walk: &mut Walk, now: i64) {
        if let Some(reach) = &self.reach {
            walk.pass_to(now, reach);
        }
    }

    /// Returns whether mail of the account's own is held or refused.
    fn own(&self, walk: &mut Walk, sum: &Sum) -> bool {
        self.pass_to(walk, sum.at());
        walk.ask(&self.policy, sum.network, mail(sum), sum.largest, sum.at()).blocked
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limiter::decide::Policy;
    use crate::policy::limit::Limit;
    use crate::policy::quota::{UNLIMITED, Window};
    use crate::policy::steps::Steps;
    use crate::protocol::reply::Action;
    use crate::replay::intake::Charged;
    use crate::replay::suggest::form::{FORMS, Form, QUOTA};
    use crate::replay::suggest::streams::Streams;
    use crate::replay::suggest::sweep::{SenderMonths, reach};
    use crate::replay::suggest::wave::{self, Attempt, WAVES};
    use jiff::tz::TimeZone;
    use proptest::prelude::*;

    /// 2026-09-28 00:00 UTC.
    const BEGIN: i64 = 1_790_553_600;
    const DAY: i64 = 24 * 3600;

    fn policy(limits: Vec<Limit>) -> Policy {
        Policy {
            new_quota: UNLIMITED,
            window: Window::Reset,
            steps: Steps::parse("", "later").unwrap(),
            limits,
            networks_ignore: Vec::new(),
            accepted: Action::DUNNO,
            on_error: Action::DUNNO,
            zone: TimeZone::UTC,
        }
    }

    /// Mail of one account over some weeks: seconds after the one before, recipients, from which network.
    fn stream() -> impl Strategy<Value = (Vec<Sum>, Log)> {
        let pause = prop_oneof![6 => 0i64..90, 3 => 0i64..2 * 3600, 2 => 0i64..30 * 3600, 1 => 0i64..12 * DAY];
        prop::collection::vec((pause, 1u32..60, 0u8..6), 1..120).prop_map(|mails| {
            let (mut streams, mut now) = (Streams::default(), BEGIN);
            for (pause, recipients, place) in mails {
                now += pause;
                let network = (place > 0).then(|| format!("192.0.{place}.0/24").parse().unwrap());
                streams.add(&Charged::of("al", now, network, recipients));
            }
            let (begin, end) = streams.span.unwrap();
            (streams.into_sorted().remove(0).sums, Log { begin, end })
        })
    }

    fn form() -> impl Strategy<Value = Form> {
        prop::sample::select(FORMS.to_vec())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_swept_amount_touches_whom_the_limiter_touches((sums, log) in stream(), form in form(), amount in 1u64..300) {
            let mut months = SenderMonths::default();
            months.add(0, &sums, log);
            let judged = Judge::new(policy(vec![form.limit(amount)]), log).touched(&sums, None);
            if form.learns() && log.acts_from().is_none() {
                prop_assert_eq!(judged.touched, 0, "it only warns");
                return Ok(());
            }
            prop_assert_eq!(months.len(form), judged.months as usize);
            prop_assert_eq!(months.touched(form, amount).touched, judged.touched as usize);
            for at_most in 0..3 {
                let Some(level) = months.tightest(form, at_most) else { continue };
                let judged = Judge::new(policy(vec![form.limit(level.amount)]), log).touched(&sums, None);
                prop_assert!(judged.touched as usize <= at_most && judged.touched as usize == level.touched);
                if level.amount > 1 {
                    let tighter = Judge::new(policy(vec![form.limit(level.amount - 1)]), log).touched(&sums, None);
                    prop_assert!(tighter.touched as usize > at_most, "{} is not the tightest", level.amount);
                }
            }
        }

    }

    proptest! {
        // A wave has many messages.
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn of_a_wave_passes_what_the_limiter_lets_pass(
            (sums, log) in stream(),
            form in form(),
            amount in prop_oneof![1u64..80, 100u64..5000],
            wave in prop::sample::select(WAVES.to_vec()),
            part in 0i64..1000,
        ) {
            let at = (log.begin + (log.end - log.begin) * part / 1000) / 60 * 60;
            let attempt = Attempt { form, limits: vec![form.limit(amount)] };
            let reach = reach();
            let begun = wave::begin(Walk::new(UNLIMITED, log.first_day()), &sums, at, |walk, sum| {
                walk.pass_to(sum.at(), &reach);
                walk.add(sum.network, mail(sum), sum.at());
            });
            let swept = wave::passed(wave, begun, &[attempt]);
            prop_assert_eq!(swept, [Judge::new(policy(vec![form.limit(amount)]), log).passed(wave, &sums, None, at)]);
        }
    }

    #[test]
    fn a_quota_and_a_limit_are_judged_together() {
        let mut streams = Streams::default();
        (0..5).for_each(|number| streams.add(&Charged::of("al", BEGIN + number * 60, None, 10)));
        let (begin, end) = streams.span.unwrap();
        let (sums, log) = (streams.into_sorted().remove(0).sums, Log { begin, end });
        let with = |quota, limits: &str| {
            let limits = crate::policy::limits::parse(limits, "later").unwrap();
            Judge::new(Policy { new_quota: quota, window: Window::Sliding(QUOTA.window), ..policy(limits) }, log)
        };
        assert_eq!(with(50, "").touched(&sums, None), Touched { months: 1, touched: 0 });
        assert_eq!(with(49, "").touched(&sums, None), Touched { months: 1, touched: 1 });
        assert_eq!(with(49, "").touched(&sums, Some(50)).touched, 0);
        assert_eq!(with(50, "9 recipients/message REJECT").touched(&sums, None).touched, 1);
        assert_eq!(with(50, "1 recipients/5m WARN").touched(&sums, None).touched, 0);
        // What was deferred is in no window: every hour lets as much pass again.
        let at = BEGIN + 600;
        assert_eq!(
            with(1000, "").passed(Wave::Fast, &sums, None, at),
            1000,
            "its own mail has left the window at last"
        );
        assert_eq!(with(UNLIMITED, "100 recipients/1h HOLD").passed(Wave::Fast, &sums, None, at), 50);
        assert_eq!(with(1000, "100 recipients/1h DEFER").passed(Wave::Fast, &sums, None, at), 1000);
        assert_eq!(with(1000, "").passed(Wave::Slow, &sums, None, at), 480);
        assert_eq!(with(UNLIMITED, "").passed(Wave::Networks, &sums, None, at), 24 * 60 * 60);
        assert_eq!(with(UNLIMITED, "8 networks/1h HOLD").passed(Wave::Networks, &sums, None, at), 8);
    }
}
