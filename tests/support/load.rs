//! Many connections that ask one message after the other, as Postfix's processes do on a busy server.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use super::client::{ACCEPTED, Client, Request};
use super::stream::Address;

/// What was asked and answered so far, over all connections.
#[derive(Debug, Default)]
pub struct Load {
    asked: AtomicU64,
    answered: AtomicU64,
    accepted: AtomicU64,
}

impl Load {
    /// Requests of which at least the first byte may have been sent.
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }

    /// Replies that were received whole.
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::SeqCst)
    }

    /// Replies that let the message through.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::SeqCst)
    }

    /// Asks `each` times on each of so many connections, all at once; a connection that breaks asks no more. `meanwhile`
    /// runs beside them. Returns when all have ended.
    pub fn run(
        &self,
        address: &Address,
        connections: usize,
        each: usize,
        request: impl Fn() -> Request + Sync,
        meanwhile: impl FnOnce(),
    ) {
        thread::scope(|scope| {
            for _ in 0..connections {
                scope.spawn(|| {
                    let mut client = Client::connect(address);
                    for _ in 0..each {
                        let request = request();
                        self.asked.fetch_add(1, Ordering::SeqCst);
                        let Ok(action) = client.try_ask(&request) else { return };
                        self.answered.fetch_add(1, Ordering::SeqCst);
                        if action == ACCEPTED {
                            self.accepted.fetch_add(1, Ordering::SeqCst);
                        }
                    }
                });
            }
            meanwhile();
        });
    }
}
