//! Senders as they are named on the command line.

use crate::account::named_key;
use crate::commands::{database, table};
use crate::config::Config;
use crate::exit::{Exit, Failed};
use crate::store::Store;
use crate::store::senders::SenderRow;

/// Returns the account that a name stands for.
pub fn key(config: &Config, name: &str) -> Result<String, Failed> {
    named_key(name, &config.accounts).ok_or_else(|| {
        Failed::new(Exit::Usage, "NAME is empty; name a login, or @domain, or a name that `sender list` shows")
    })
}

/// Returns the row of the sender of this name.
pub async fn row(config: &Config, store: &mut Store, name: &str) -> Result<SenderRow, Failed> {
    let key = key(config, name)?;
    let row = database::insist(store, async |store| store.sender(&key).await).await?;
    row.ok_or_else(|| no_such_sender(&key))
}

/// The failure for an account without a row.
pub fn no_such_sender(key: &str) -> Failed {
    Failed::new(
        Exit::NoUser,
        format_args!(
            "there is no sender {0}: a sender that has sent nothing yet has no row. \
             `policyd-rate-guard sender list --filter TEXT` finds names, `sender set` makes a row",
            table::clean(key)
        ),
    )
}
