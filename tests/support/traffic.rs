//! Traffic that goes on while something happens around the daemon: connections that ask message after message, and
//! remember what they were told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::client::{Client, Request};
use super::stream::Address;
use super::wait;

/// One question and its answer.
#[derive(Debug, Clone)]
pub struct Answered {
    pub sender: String,
    pub action: String,
    pub took: Duration,
}

/// Connections that ask until they are stopped.
#[derive(Debug)]
pub struct Traffic {
    shared: Arc<Shared>,
    connections: Vec<JoinHandle<Vec<Answered>>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    answers: AtomicU64,
}

impl Traffic {
    /// A connection for each sender, each asking for one recipient every `pace` or as fast as it is answered.
    pub fn start(daemon: &Address, senders: &[String], pace: Duration) -> Traffic {
        let shared = Arc::new(Shared::default());
        let connect = |sender: &String| {
            let (shared, sender, mut client) = (shared.clone(), sender.clone(), Client::connect(daemon));
            thread::spawn(move || {
                let mut answered = Vec::new();
                while !shared.stop.load(Ordering::Relaxed) {
                    let asked = Instant::now();
                    let action = client.ask(&Request::data(&sender, 1));
                    answered.push(Answered { sender: sender.clone(), action, took: asked.elapsed() });
                    shared.answers.fetch_add(1, Ordering::Relaxed);
                    thread::sleep(pace.saturating_sub(asked.elapsed()));
                }
                answered
            })
        };
        let connections = senders.iter().map(connect).collect();
        Traffic { shared, connections }
    }

    /// Waits until so many more answers have come.
    pub fn await_answers(&self, more: u64) {
        let goal = self.answers() + more;
        wait::until(Duration::from_secs(30), "answers", || (self.answers() >= goal).then_some(()));
    }

    /// Answers in a second while `something` goes on.
    pub fn rate_while(&self, something: impl FnOnce()) -> f64 {
        let (before, begun) = (self.answers(), Instant::now());
        something();
        (self.answers() - before) as f64 / begun.elapsed().as_secs_f64()
    }

    fn answers(&self) -> u64 {
        self.shared.answers.load(Ordering::Relaxed)
    }

    /// Ends it, and gives all answers. A request that was not answered fails the test.
    pub fn stop(self) -> Vec<Answered> {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.connections.into_iter().flat_map(|connection| connection.join().expect("every request answered")).collect()
    }
}

/// `count` logins.
pub fn senders(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("sender{number:02}@example.com")).collect()
}
