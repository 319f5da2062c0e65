//! `sender`: looks at senders and changes them; one file for each verb.

mod block;
mod delete;
mod list;
mod named;
mod reset;
mod set;
mod show;
mod unblock;

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
        Sender::Block(options) => block::run(sources, options),
        Sender::Unblock(options) => unblock::run(sources, options),
    }
}
