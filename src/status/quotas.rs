//! Which senders a new QUOTA does not change: a sender's quota is copied into its row when the row is made.

use std::time::Duration;

use crate::config::Database;
use crate::policy::quota;
use crate::store::{Failure, Store};

/// Reading every row of a large table takes about a second. Nothing waits for it.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Logs how many senders have another usual quota than QUOTA, if any do.
pub async fn tell_of_others(database: Database, quota: u32) {
    let mut store = Store::reading(&database);
    let others = async {
        let others = store.quotas_but(quota).await?;
        store.close().await;
        Ok::<_, Failure>(others)
    };
    match tokio::time::timeout(TIMEOUT, others).await {
        Ok(Ok(others)) => {
            if let Some(said) = said(quota, &others) {
                log::info!("{said}");
            }
        }
        // The committer reports what is wrong with the database.
        Ok(Err(error)) => log::debug!("comparing quotas: {error}"),
        Err(_) => log::debug!("comparing quotas: no end within {} s", TIMEOUT.as_secs()),
    }
}

/// Returns the log message, or None if there is nothing to say. `others` are the other quotas and how many senders have each,
/// the most frequent first.
fn said(quota: u32, others: &[(u32, i64)]) -> Option<String> {
    let (most, rows) = others.first()?;
    let all: i64 = others.iter().map(|(_, rows)| rows).sum();
    Some(format!(
        "QUOTA={} is for new senders; {all} have another quota, {rows} of them {}. `policyd-rate-guard sender set NAME --quota` \
         changes one, and with `@domain --existing` all of a domain",
        quota::written(quota),
        quota::written(*most)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::quota::UNLIMITED;

    #[test]
    fn says_how_many_a_new_quota_leaves_as_they_are() {
        assert_eq!(said(1000, &[]), None);
        let said = said(2000, &[(1000, 300), (UNLIMITED, 12)]).unwrap();
        assert!(
            said.starts_with("QUOTA=2000 is for new senders; 312 have another quota, 300 of them 1000. "),
            "{said}"
        );
    }
}
