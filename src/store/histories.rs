//! The histories that decisions need: what was let through, where senders were seen, and what was learnt about them.

use super::days;
use super::failure::Failure;
use super::handle::Store;
use super::lock_timeout::LockTimeout;
use super::script::Script;
use super::sql::in_statements;
use super::usage::{self, HistoryRows, Since};

/// Reads histories, those of as many senders as a statement takes in one packet: each is a round trip.
pub async fn read(script: &mut Script<'_>, since: Since) -> Result<HistoryRows, Failure> {
    let mut read = HistoryRows { learnt: since.learnt.as_ref().map(|_| Default::default()), ..HistoryRows::default() };
    // What the database as a whole knows is asked for of no sender, too.
    let slices: Vec<&[i64]> = if since.rows.is_empty() { vec![&[]] } else { in_statements(&since.rows).collect() };
    for ids in slices {
        let mut questions = Vec::new();
        if let Some(wanted) = &since.learnt {
            questions.push(days::question(script, ids, &since, wanted));
        }
        if !ids.is_empty() {
            questions.push(usage::minutes(script, ids, &since));
        }
        if let Some(seen_since) = since.networks.filter(|_| !ids.is_empty()) {
            questions.push(usage::places(script, ids, seen_since, since.learnt.as_ref()));
        }
        let mut answers = script.ask(questions).await?.into_iter();
        if let Some(learnt) = &mut read.learnt {
            learnt.take(answers.next().unwrap_or_default());
        }
        read.take_minutes(answers.next().unwrap_or_default());
        read.take_places(answers.next().unwrap_or_default());
    }
    read.rows = since.rows;
    Ok(read)
}

impl Store {
    /// Reads the histories of some senders.
    pub async fn histories(&mut self, since: Since) -> Result<HistoryRows, Failure> {
        self.run(async |connection| read(&mut Script::new(connection, LockTimeout::Server, false), since).await).await
    }
}
