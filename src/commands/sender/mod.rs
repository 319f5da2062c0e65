//! `sender`: what operators ask about senders, and change; one file for each verb.

mod delete;
mod list;
mod reset;
mod set;
mod show;

use serde::Serialize;

use super::table;
use crate::cli::Sender;
use crate::config::{Config, Sources, UNLIMITED};
use crate::exit::{Exit, Failed};
use crate::limiter::subject::named_key;
use crate::store::senders::SenderRow;

pub fn run(sources: &Sources, sender: &Sender) -> Result<Exit, Failed> {
    match sender {
        Sender::List(options) => list::run(sources, options),
        Sender::Show(options) => show::run(sources, options),
        Sender::Set(options) => set::run(sources, options),
        Sender::Reset(options) => reset::run(sources, options),
        Sender::Delete(options) => delete::run(sources, options),
    }
}

/// The key of a sender as it was named.
fn key(config: &Config, name: &str) -> Result<String, Failed> {
    named_key(name, &config.subject).ok_or_else(|| {
        Failed::new(Exit::Usage, "NAME is empty; name a login, or @domain, or a name that `sender list` shows")
    })
}

fn no_such_sender(key: &str) -> Failed {
    Failed::new(
        Exit::NoUser,
        format_args!(
            "there is no sender {0}: whoever has sent nothing yet has no row. \
             `policyd-rate-guard sender list --filter TEXT` finds names, `sender set` makes a row",
            table::clean(key)
        ),
    )
}

/// A sender's row, for programs. A quota of null is unlimited; times are RFC 3339 in UTC.
#[derive(Debug, Serialize)]
struct Row {
    sender: String,
    quota: Option<u32>,
    quota_reset: Option<u32>,
    quota_locked: bool,
    /// Since the last cleanup, also what was refused.
    msg_counter: u32,
    rcpt_counter: u32,
    msg_total: u32,
    rcpt_total: u32,
    created_at: String,
    updated_at: String,
}

impl From<&SenderRow> for Row {
    fn from(row: &SenderRow) -> Row {
        let limited = |quota| (quota != UNLIMITED).then_some(quota);
        Row {
            sender: row.sender.clone(),
            quota: limited(row.quota),
            quota_reset: limited(row.quota_reset),
            quota_locked: row.locked,
            msg_counter: row.messages,
            rcpt_counter: row.recipients,
            msg_total: row.total_messages,
            rcpt_total: row.total_recipients,
            created_at: table::utc(row.created_at),
            updated_at: table::utc(row.updated_at),
        }
    }
}
