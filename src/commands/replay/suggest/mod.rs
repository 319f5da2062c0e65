//! `replay --suggest`: the settings that past mail suggests.

mod report;
mod survey;

use jiff::tz::TimeZone;

use self::report::{Found, Report, Row, Spread};
use self::survey::survey;
use super::coverage::Coverage;
use super::past::Past;
use crate::cli;
use crate::commands::database;
use crate::commands::output::{print, print_json};
use crate::commands::table::Screen;
use crate::config::{self, Config, Sources};
use crate::exit::{Exit, Failed};
use crate::limiter::decide::Policy;
use crate::policy::quota::UNLIMITED;
use crate::replay::files::Opened;
use crate::replay::intake::Intake;
use crate::replay::suggest::form::{FORMS, Form, QUOTA};
use crate::replay::suggest::judge::{Judge, Touched};
use crate::replay::suggest::proposal::Proposal;
use crate::replay::suggest::streams::{Stream, Streams};
use crate::replay::suggest::sweep::{Level, Log, SenderMonths, reach};
use crate::replay::suggest::walk::{Walk, mail};
use crate::replay::suggest::wave::{self, Attempt, WAVES};

/// A limit touches one of so many sender-months at the most.
const SHARES: [usize; 3] = [usize::MAX, 1000, 100];
/// In so many sender-months an account is stolen; in all of them if they are fewer.
const STOLEN: u64 = 500;

pub fn run(sources: &Sources, opened: Vec<Opened>, options: &cli::Replay) -> Result<Exit, Failed> {
    let report = database::with_store(sources, async |config, _| suggest(&config, opened, options))?;
    if options.output.json {
        print_json(&report.json())?;
    } else {
        print(&report.shown(Screen::of_process()))?;
    }
    Ok(if report.is_whole() { Exit::Ok } else { Exit::Findings })
}

fn suggest(config: &Config, opened: Vec<Opened>, options: &cli::Replay) -> Result<Report, Failed> {
    let zone = TimeZone::system();
    let lists = config::load_lists(config).map_err(|error| Failed::new(Exit::Config, error))?;
    let terms = config.terms(lists, zone.clone());
    let (policy, limit_by) = (terms.policy.clone(), terms.accounts.limit_by.clone());
    let (mut past, mut intake) = (Past::read(opened, &zone, false, options)?, Intake::new(terms));
    let mut streams = Streams::default();
    while let Some(messages) = past.next_messages() {
        for charged in messages.iter().filter_map(|(at, asked)| intake.take(*at, asked)) {
            streams.add(&charged);
        }
    }
    let (counts, gaps) = past.end()?;
    let Intake { nobody, listed, .. } = intake;
    Ok(Report {
        coverage: Coverage { counts, gaps, limit_by },
        messages: streams.messages,
        recipients: streams.recipients,
        one_in: streams.one_in,
        nobody,
        listed,
        bytes_left_out: policy.counts_bytes(),
        found: streams
            .span
            .and_then(|(begin, end)| found(streams.into_sorted(), Log { begin, end }, &policy, options.seed)),
        number: usize::try_from(options.number).unwrap_or(usize::MAX),
        zone,
    })
}

fn found(streams: Vec<Stream>, log: Log, policy: &Policy, seed: u64) -> Option<Found> {
    let swept = survey("How high limits must be", &streams, |account, stream| {
        let mut months = SenderMonths::default();
        months.add(account, &stream.sums, log);
        months
    });
    let mut months = SenderMonths::default();
    swept.into_iter().for_each(|of_account| months.append(of_account));
    let proposal = Proposal::of(&months)?;
    let tried: Vec<(Form, Vec<Level>)> = FORMS.map(|form| (form, levels(&months, form))).into();
    let limits = |(form, levels): &(Form, Vec<Level>)| Attempt {
        form: *form,
        limits: levels.iter().map(|level| form.limit(level.amount)).collect(),
    };
    let trial = Trial {
        log,
        seed,
        part: (STOLEN << 32).div_ceil(u64::try_from(months.len(QUOTA)).unwrap_or(u64::MAX).max(1)),
        attempts: tried.iter().map(limits).collect(),
        as_set: Judge::new(policy.clone(), log),
        proposed: Judge::new(proposal.applied_to(policy), log),
        proposal: &proposal,
    };
    let outcomes = survey("How far a wave gets", &streams, |account, stream| trial.of(account, stream));

    let passed =
        |column: usize| WAVES.map(|wave| Spread::of(outcomes.iter().flat_map(|outcome| outcome.passed(wave, column))));
    let of_levels = tried.iter().flat_map(|(form, levels)| levels.iter().map(|level| (*form, level)));
    let rows = Vec::from_iter(of_levels.enumerate().map(|(column, (form, level))| Row {
        written: form.written(level.amount),
        touched: level.touched,
        of: months.len(form),
        senders: level.accounts.clone(),
        passed: passed(column),
    }));
    let judged = |written: &str, nth: usize| {
        let touched = |outcome: &Outcome| outcome.judged.get(nth).copied().unwrap_or_default();
        let sum = |of: fn(Touched) -> u32| outcomes.iter().map(|outcome| of(touched(outcome)) as usize).sum();
        let accounts = outcomes.iter().zip(0..).filter(|(outcome, _)| touched(outcome).touched > 0);
        Row {
            written: written.to_owned(),
            touched: sum(|touched| touched.touched),
            of: sum(|touched| touched.months),
            senders: accounts.map(|(_, account)| (account, 0)).collect(),
            passed: passed(rows.len() + nth),
        }
    };
    Some(Found {
        log,
        as_set: judged("(as set)", 0),
        proposed: judged("(proposed)", 1),
        stolen: outcomes.iter().map(|outcome| outcome.waves.len()).sum(),
        sender_months: months.len(QUOTA),
        senders: streams.into_iter().map(|stream| stream.account).collect(),
        rows,
        proposal,
    })
}

/// Returns the tightest amounts of a form for the shares of sender-months, each once.
fn levels(months: &SenderMonths, form: Form) -> Vec<Level> {
    let mut levels = Vec::from_iter(SHARES.iter().filter_map(|share| months.tightest(form, months.len(form) / share)));
    levels.dedup_by_key(|level| level.amount);
    levels
}

/// What is tried on each account.
struct Trial<'a> {
    log: Log,
    seed: u64,
    /// See [`wave::begins`].
    part: u64,
    attempts: Vec<Attempt>,
    as_set: Judge,
    proposed: Judge,
    proposal: &'a Proposal,
}

/// What came of it.
struct Outcome {
    /// By the settings as they are, and by the proposal.
    judged: [Touched; 2],
    /// For each time that the account was stolen: of each wave, how many recipients pass, for each limit of the attempts, then
    /// for the settings as they are, and for the proposal.
    waves: Vec<[Vec<u32>; WAVES.len()]>,
}

impl Outcome {
    fn passed(&self, wave: wave::Wave, column: usize) -> impl Iterator<Item = u32> {
        let place = WAVES.iter().position(|known| *known == wave).unwrap_or(0);
        self.waves.iter().filter_map(move |passed| passed.get(place)?.get(column).copied())
    }
}

impl Trial<'_> {
    fn of(&self, account: u32, stream: &Stream) -> Outcome {
        let sums = &stream.sums;
        let own_quota = self.proposal.own_quota(account);
        let judges = [(&self.as_set, None), (&self.proposed, own_quota)];
        let begins = wave::begins(&stream.account, sums, self.log, self.seed, self.part);
        let reach = reach();
        let waves = begins.into_iter().map(|at| {
            let begun = wave::begin(Walk::new(UNLIMITED, self.log.first_day()), sums, at, |walk, sum| {
                walk.pass_to(sum.at(), &reach);
                walk.add(sum.network, mail(sum), sum.at());
            });
            WAVES.map(|wave| {
                let mut passed = wave::passed(wave, begun.clone(), &self.attempts);
                passed.extend(judges.map(|(judge, quota)| judge.passed(wave, sums, quota, at)));
                passed
            })
        });
        Outcome { waves: waves.collect(), judged: judges.map(|(judge, quota)| judge.touched(sums, quota)) }
    }
}
