//! `sender`: what operators ask about senders, and change; one file for each verb.

mod delete;
mod held;
mod list;
mod reset;
mod set;
pub(super) mod show;

use super::table;
use crate::account::named_key;
use crate::cli::Sender;
use crate::config::{Config, Sources};
use crate::exit::{Exit, Failed};

pub fn run(sources: &Sources, sender: &Sender) -> Result<Exit, Failed> {
    match sender {
        Sender::List(options) => list::run(sources, options),
        Sender::Show(options) if options.held => held::run(sources, options),
        Sender::Show(options) => show::run(sources, options),
        Sender::Set(options) => set::run(sources, options),
        Sender::Reset(options) => reset::run(sources, options),
        Sender::Delete(options) => delete::run(sources, options),
    }
}

/// The key of a sender as it was named.
pub(super) fn key(config: &Config, name: &str) -> Result<String, Failed> {
    named_key(name, &config.accounts).ok_or_else(|| {
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
