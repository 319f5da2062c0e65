//! `held`: the mail that this program has had Postfix hold. What is on hold is asked of Postfix, why it is of the database.
//!
//! Postfix's own commands do what needs root, and nothing else does: [`postfix`] starts them first, then the command becomes USER
//! (`database`), reads the database, and hands postsuper(1) the ids over a pipe.

pub mod act;
mod by_quota;
pub mod find;
mod list;
pub mod postfix;
pub mod retro;
mod summary;

use crate::cli;
use crate::config::Sources;
use crate::exit::{Exit, Failed};

pub fn run(sources: &Sources, options: &cli::Held) -> Result<Exit, Failed> {
    match &options.verb {
        None => summary::run(sources, &options.output),
        Some(cli::HeldVerb::List(options)) => list::run(sources, options),
        Some(cli::HeldVerb::Release(options)) => act::release(sources, options),
        Some(cli::HeldVerb::Delete(options)) => act::delete(sources, options),
    }
}
