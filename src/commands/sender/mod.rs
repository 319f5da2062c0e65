//! `sender`: looks at senders and changes them; one file for each verb.

mod delete;
mod list;
mod named;
mod reset;
mod set;
mod show;

use crate::cli::Sender;
use crate::config::Sources;
use crate::exit::{Exit, Failed};

pub fn run(sources: &Sources, sender: &Sender) -> Result<Exit, Failed> {
    match sender {
        Sender::List(options) => list::run(sources, options),
        Sender::Show(options) => show::run(sources, options),
        Sender::Set(options) => set::run(sources, options),
        Sender::Reset(options) => reset::run(sources, options),
        Sender::Delete(options) => delete::run(sources, options),
    }
}
