//! `watch`: a live screen. [`screen`] draws it; `database` and `counters` look, each beside the drawing, so that a key is
//! answered at once whatever they wait for; [`terminal`] sets the terminal up and restores it.

mod counters;
mod database;
pub mod screen;
pub mod terminal;

use std::future::pending;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::table;
use crate::cli;
use crate::clock;
use crate::config::{Config, Endpoint, Sources};
use crate::exit::{Exit, Failed};
use crate::limiter::decide::Policy;
use crate::store::Store;
use counters::Answered;
use database::{Looked, Wanted};
use screen::draw::View;
use screen::figures::{Contact, Figures, Own};
use screen::look::Look as Style;
use screen::state::{Effect, Seen, State};
use terminal::{Input, Terminal};

/// The longest time between two drawings of the screen, which has a clock.
const TICK: Duration = Duration::from_secs(1);
/// How long restoring the terminal may take after a signal. It may hang, at the other end of a connection.
const TIMEOUT: Duration = Duration::from_secs(2);

pub fn run(sources: &Sources, options: &cli::Watch) -> Result<Exit, Failed> {
    if let Some(obstacle) = terminal::obstacle() {
        return Err(Failed::new(
            Exit::Usage,
            format_args!(
                "{obstacle}, and `watch` draws on one. Elsewhere use `policyd-rate-guard top` or \
                 `policyd-rate-guard sender list --json`"
            ),
        ));
    }
    let config = super::database::load(sources)?;
    if config.database.is_in_memory() {
        let why = "DB_DATABASE is :memory:, which only the daemon itself can read; METRICS_LISTEN shows its counters";
        return Err(Failed::new(Exit::Unavailable, why));
    }
    super::database::become_user(&config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| Failed::new(Exit::OsError, format_args!("cannot start the runtime: {error}")))?;
    let done = runtime.block_on(watch(&config, options));
    // A task may still wait for the database or the daemon; nothing needs its answer.
    runtime.shutdown_background();
    done
}

async fn watch(config: &Config, options: &cli::Watch) -> Result<Exit, Failed> {
    let terms = super::database::terms(config);
    let policy = terms.policy.clone();
    let store = Store::reading(&config.database);
    let asked = config.status.listen.as_ref().map(super::scrape::address);
    let figures = Figures { place: store.place(), daemon: own(asked.as_ref()), ..Figures::default() };
    let (wanted, wishes) = watch::channel(Wanted::default());
    let (looked, looks) = mpsc::channel(4);
    let (answered, answers) = mpsc::channel(4);
    let interval = options.interval;
    let signalled = signalled()?;
    let lost = |error: std::io::Error| Failed::new(Exit::IoError, format_args!("the terminal: {error}"));
    let terminal = Terminal::take().map_err(lost)?;
    let inputs = terminal::inputs().map_err(lost)?;
    let look = database::look(store, terms, interval, wishes, looked);
    let mut lookers = vec![tokio::spawn(look)];
    lookers.extend(asked.map(|address| tokio::spawn(counters::ask(address, interval, answered))));
    let style = Style {
        colour: Style::wants_colour(options.no_color, |name| std::env::var(name).ok()),
        unicode: table::Screen::of_process().is_some_and(|screen| screen.unicode),
    };
    let app = App { figures, state: State::default(), seen: Seen::default(), policy, interval, style, wanted };
    app.run(terminal, inputs, (looks, answers), signalled, lookers).await
}

/// Returns what is known of the daemon at first.
fn own(address: Option<&Endpoint>) -> Own {
    address.map_or(Own::NotAsked, |address| Own::Asked {
        address: address.to_string(),
        contact: Contact::Asking,
        told: None,
    })
}

/// Returns a channel that gets the first signal to end.
fn signalled() -> Result<mpsc::Receiver<()>, Failed> {
    let (sender, receiver) = mpsc::channel(1);
    for kind in [SignalKind::terminate(), SignalKind::hangup(), SignalKind::interrupt(), SignalKind::quit()] {
        let mut signals = signal(kind)
            .map_err(|error| Failed::new(Exit::OsError, format_args!("cannot wait for signals: {error}")))?;
        let sender = sender.clone();
        tokio::spawn(async move {
            signals.recv().await;
            let _ = sender.try_send(());
            tokio::time::sleep(TIMEOUT).await;
            terminal::abandon();
            std::process::exit(Exit::IoError as i32);
        });
    }
    Ok(receiver)
}

/// The state while the screen is open.
struct App {
    figures: Figures,
    state: State,
    seen: Seen,
    policy: Policy,
    interval: Duration,
    style: Style,
    wanted: watch::Sender<Wanted>,
}

impl App {
    async fn run(
        mut self,
        mut terminal: Terminal,
        mut inputs: mpsc::Receiver<Input>,
        (mut looks, mut answers): (mpsc::Receiver<Looked>, mpsc::Receiver<Answered>),
        mut signalled: mpsc::Receiver<()>,
        mut lookers: Vec<JoinHandle<()>>,
    ) -> Result<Exit, Failed> {
        let lost = |error: std::io::Error| Failed::new(Exit::IoError, format_args!("the terminal: {error}"));
        let mut tick = tokio::time::interval(TICK);
        loop {
            self.seen = terminal.draw(&self.view()).map_err(lost)?;
            tokio::select! {
                biased;
                _ = signalled.recv() => return Ok(Exit::Ok),
                ended = any(&mut lookers) => {
                    drop(terminal);
                    return Err(Failed::new(Exit::Software, format_args!("a task of `watch` has ended: {ended}; this is a bug")));
                }
                Some(input) = inputs.recv() => {
                    // Keys that came together are drawn together.
                    let mut next = Some(input);
                    while let Some(input) = next {
                        match input {
                            Input::Resized => {}
                            Input::Lost(error) => return Err(lost(error)),
                            Input::Key(key) => match self.key(key) {
                                Effect::Quit => return Ok(Exit::Ok),
                                Effect::None | Effect::Asks => {}
                            },
                        }
                        next = inputs.try_recv().ok();
                    }
                }
                Some(looked) = looks.recv() => self.take_look(looked),
                Some(answered) = answers.recv() => self.take_answer(answered),
                _ = tick.tick() => {}
            }
        }
    }

    fn view(&self) -> View<'_> {
        View {
            figures: &self.figures,
            state: &self.state,
            policy: &self.policy,
            now: clock::now(),
            interval: self.interval,
            look: self.style,
        }
    }

    fn key(&mut self, key: screen::state::Key) -> Effect {
        let senders = self.figures.snapshot.as_ref().map_or(&[][..], |snapshot| &snapshot.senders);
        let effect = self.state.key(key, senders, self.seen);
        if effect == Effect::Asks {
            let State { sort, filter, .. } = &self.state;
            let opened = self.state.opened().map(str::to_owned);
            let wanted = Wanted { sort: *sort, filter: filter.clone(), opened };
            // The known senders are sorted at once; others come when the database has answered.
            if let Some(snapshot) = &mut self.figures.snapshot
                && self.wanted.borrow().sort != wanted.sort
            {
                wanted.sort.sort(&mut snapshot.senders);
            }
            self.wanted.send_if_modified(|before| {
                let modified = *before != wanted;
                *before = wanted;
                modified
            });
        }
        effect
    }

    fn take_look(&mut self, looked: Looked) {
        match *looked {
            Err(why) => self.figures.database.lost(clock::now(), why),
            Ok(look) => {
                let mut snapshot = look.snapshot;
                // It may have been asked for in another order.
                self.state.sort.sort(&mut snapshot.senders);
                for (at, messages, recipients) in look.sums {
                    self.figures.paces.add(at, messages, recipients);
                }
                self.figures.snapshot = Some(snapshot);
                self.figures.about = look.asked;
                self.figures.place = look.place;
                self.figures.database = Contact::Up(look.took);
            }
        }
    }

    fn take_answer(&mut self, answered: Answered) {
        let Own::Asked { contact, told, .. } = &mut self.figures.daemon else { return };
        match answered {
            Err(why) => contact.lost(clock::now(), why),
            Ok(new) => {
                *contact = Contact::Up(Duration::ZERO);
                *told = Some(new);
            }
        }
    }
}

/// Returns why the first of these tasks ended; none of them ends by itself.
async fn any(lookers: &mut [JoinHandle<()>]) -> String {
    match lookers {
        [one, other] => tokio::select! { ended = one => told(ended), ended = other => told(ended) },
        [one] => told(one.await),
        _ => pending().await,
    }
}

fn told(ended: Result<(), tokio::task::JoinError>) -> String {
    ended.map_or_else(|error| error.to_string(), |()| "it returned".to_owned())
}
