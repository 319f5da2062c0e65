//! Everything the program was told, checked and typed.
//!
//! `settings` is the one table of names; `sources` finds and `env_file` reads the file; `check` turns names and values
//! into [`Config`], or into every error at once; `restart` tells what a reload cannot change.

mod address;
mod check;
pub mod documents;
mod endpoint;
pub mod env_file;
mod finding;
mod lists;
mod password;
mod restart;
mod secret;
pub mod setting;
pub mod settings;
mod sources;
mod terms;
mod typed;
mod url_template;
mod values;

pub use address::{AddressProblem, ListenAddress, OPENED_BY_THE_DAEMON};
pub use check::{Effective, Loaded, load};
pub use endpoint::{Endpoint, IN_THE_OPEN};
pub use finding::{ConfigError, Finding, Origin, Severity};
pub use lists::load_lists;
pub use restart::{in_effect, restart_needed};
pub use secret::Secret;
pub use sources::{LOCAL_FILE, SYSTEM_FILE, Sources};
pub use typed::{
    Answers, Audit, Config, Database, Driver, Held, IN_MEMORY, Journal, ListFiles, Logging, Notify, Place, Quota,
    SentryDsn, Sockets, Status, Tls, TokenKey, Webhook,
};
pub use url_template::{Placeholder, UrlTemplate};
