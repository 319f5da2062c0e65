//! Senders as an operator names them.

use crate::account::named_key;
use crate::commands::table;
use crate::config::Config;
use crate::exit::{Exit, Failed};

/// The key of a sender as it was named.
pub fn key(config: &Config, name: &str) -> Result<String, Failed> {
    named_key(name, &config.accounts).ok_or_else(|| {
        Failed::new(Exit::Usage, "NAME is empty; name a login, or @domain, or a name that `sender list` shows")
    })
}

/// The failure where the key has no row.
pub fn no_such_sender(key: &str) -> Failed {
    Failed::new(
        Exit::NoUser,
        format_args!(
            "there is no sender {0}: whoever has sent nothing yet has no row. \
             `policyd-rate-guard sender list --filter TEXT` finds names, `sender set` makes a row",
            table::clean(key)
        ),
    )
}
