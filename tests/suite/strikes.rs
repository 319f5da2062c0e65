//! Strikes of random streams of mail, on several daemons that are started again and again.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc;

use jiff::tz::TimeZone;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tokio::runtime::Builder;

use crate::support::daemon::Setup;
use crate::support::simulated::Simulated;
use policyd_rate_guard::config::{self, Sources};
use policyd_rate_guard::policy::lists::Lists;

const ALICE: &str = "alice@example.com";
const BEGIN: i64 = 1_791_763_200;
/// What strikes: a name as the table has it, and the length of its window in seconds.
const WINDOWS: [(&str, i64); 3] = [("quota", 3600), ("6 recipients/5m", 300), ("3 messages/1m", 60)];

/// A message, or a client that tries the last one again.
#[derive(Debug, Clone)]
struct Step {
    /// Seconds after the one before.
    pause: i64,
    daemon: usize,
    /// Whether that daemon is started again first.
    restart: bool,
    retry: bool,
    recipients: u32,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let pause = prop_oneof![6 => 0i64..5, 3 => 0i64..90, 2 => 0i64..600, 1 => 0i64..5000];
    let step = (pause, 0..3usize, prop::bool::weighted(0.1), prop::bool::weighted(0.4), 1..5u32)
        .prop_map(|(pause, daemon, restart, retry, recipients)| Step { pause, daemon, restart, retry, recipients });
    prop::collection::vec(step, 30..120)
}

crate::on_each_database! {
    there_is_one_strike_per_window_and_limit_however_often_a_client_retries
}

mod run {
    use super::*;

    pub fn there_is_one_strike_per_window_and_limit_however_often_a_client_retries(setup: Setup) {
        let database = setup.database();
        assert!(setup.run("migrate", &[]).status.success());
        let named = database.settings();
        let named = named.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let settings = [
            ("QUOTA", "20"),
            ("QUOTA_WINDOW", "1h"),
            ("LIMITS", "6 recipients/5m HOLD many; 3 messages/1m DEFER slow down"),
            // None of them blocks: what a block stops makes no strike.
            ("STRIKES", "1000 in 7d BLOCK"),
        ];
        let config = config::load(&Sources::new(None, named.chain(settings), false)).unwrap().config;
        let terms = Arc::new(config.terms(Lists::default(), TimeZone::UTC));
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let cases = if database.file().is_some() { 16 } else { 4 };
        let runner = Config { failure_persistence: None, max_shrink_iters: 200, ..Config::with_cases(cases) };
        let struck = Cell::new(0);
        let result = TestRunner::new(runner).run(&steps(), |steps| {
            for table in ["strikes", "messages", "ratelimits"] {
                database.execute(&format!("DELETE FROM {table}"));
            }
            let mut daemons: Vec<Simulated> = (0..3).map(|_| Simulated::new(&config.database, &terms, BEGIN)).collect();
            let (mut now, mut message) = (BEGIN, 0);
            // When each limit was struck, as the rule says it.
            let mut expected: HashMap<String, Vec<i64>> = HashMap::new();
            for step in steps {
                now += step.pause;
                message += usize::from(!step.retry);
                if step.restart {
                    let mut before =
                        std::mem::replace(&mut daemons[step.daemon], Simulated::new(&config.database, &terms, BEGIN));
                    runtime.block_on(before.store.close());
                }
                let (decision, judged) =
                    runtime.block_on(daemons[step.daemon].ask(ALICE, message, "192.0.2.1", step.recipients, now, now));
                let Some(reason) = decision.reason.as_ref().filter(|_| decision.blocked && judged) else { continue };
                let name = if reason.is_quota() { "quota" } else { reason.limit() };
                let written = WINDOWS.iter().find(|(limit, _)| name.starts_with(limit));
                let &(limit, window) = written.unwrap_or_else(|| panic!("{name}"));
                let of = expected.entry(limit.to_owned()).or_default();
                if of.last().is_none_or(|&last| last <= now - window) {
                    of.push(now);
                }
            }
            for mut daemon in daemons {
                runtime.block_on(daemon.store.close());
            }
            let mut noted: HashMap<String, Vec<i64>> = HashMap::new();
            for row in database.select(&["limit_name", "struck_at"], "FROM strikes ORDER BY struck_at") {
                noted.entry(row[0].clone()).or_default().push(row[1].parse().unwrap());
            }
            struck.set(struck.get() + noted.values().map(Vec::len).sum::<usize>());
            prop_assert_eq!(noted, expected);
            Ok(())
        });
        result.unwrap_or_else(|error| panic!("{error}"));
        assert!(struck.get() > 0, "such mail comes over limits");
    }
}
