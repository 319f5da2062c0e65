//! The quotas that are other than QUOTA, read in the background: mail is decided by them while the database is away.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::memory::OwnQuotas;
use crate::clock;
use crate::config;
use crate::limiter::terms::Terms;
use crate::store::{Failure, Store};

/// Between two times that they are read.
const REFRESH: Duration = Duration::from_secs(600);
/// After a time that failed.
const RETRY: Duration = Duration::from_secs(60);
/// For some thousand rows.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The database is the mail's: a look rests so many times as long as it took.
const REST: u32 = 9;
/// The most quotas that are known: some 10 MB.
const MAX_QUOTAS: usize = 100_000;

/// A task that reads the quotas. It ends with this.
pub struct Quotas {
    task: JoinHandle<()>,
    read: watch::Receiver<Arc<OwnQuotas>>,
}

impl Quotas {
    pub fn start(settings: config::Database, terms: watch::Receiver<Arc<Terms>>) -> Quotas {
        let (quotas, read) = watch::channel(Arc::default());
        let task = tokio::spawn(async move {
            let mut store = Store::reading(&settings);
            loop {
                let quota = terms.borrow().policy.new_quota;
                let rest = match read_all(&mut store, quota).await {
                    Ok(own) => {
                        quotas.send_replace(Arc::new(own));
                        REFRESH
                    }
                    Err(failure) => {
                        log::debug!("reading the quotas that are other than QUOTA: {failure}");
                        RETRY
                    }
                };
                store.close().await;
                tokio::time::sleep(rest).await;
            }
        });
        Quotas { task, read }
    }

    /// What was last read.
    pub fn known(&self) -> Arc<OwnQuotas> {
        self.read.borrow().clone()
    }
}

impl Drop for Quotas {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn read_all(store: &mut Store, quota: u32) -> Result<OwnQuotas, Failure> {
    let at = clock::now();
    let mut quotas = HashMap::new();
    let mut after = 0;
    while quotas.len() < MAX_QUOTAS {
        let began = Instant::now();
        let next = tokio::time::timeout(TIMEOUT, store.quotas_other_than(quota, after)).await;
        let Ok(next) = next else {
            store.abandon();
            return Err(Failure::Away(format!("no answer within {} s", TIMEOUT.as_secs())));
        };
        let Some((last, found)) = next? else { break };
        quotas.extend(found);
        after = last;
        tokio::time::sleep(began.elapsed() * REST).await;
    }
    Ok(OwnQuotas { at, quotas })
}
