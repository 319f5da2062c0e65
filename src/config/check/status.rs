//! METRICS_LISTEN, STATUS_TOKEN: which addresses answer, and what they show without the token.

use super::checker::{Checked, Checker};
use crate::config::endpoint::{Endpoint, IN_THE_OPEN};
use crate::config::typed::Status;
use crate::config::{settings, values};

/// The fewest characters of a STATUS_TOKEN that cannot be guessed.
const MIN_TOKEN_CHARS: usize = 16;

impl Checker<'_> {
    pub fn status(&mut self) -> Checked<Status> {
        let listen = self.optional("METRICS_LISTEN", values::endpoint);
        let token = self.optional("STATUS_TOKEN", values::secret);
        let (listen, token) = (listen?, token?);
        if let Some(token) = &token {
            let token = token.reveal();
            let is_sendable = token.bytes().all(|byte| matches!(byte, b' '..=b'~')) && token.trim() == token;
            if !is_sendable {
                return self.fail(
                    "STATUS_TOKEN",
                    "may have only letters without accents, digits, signs, and blanks between them: a browser sends it in a header",
                );
            }
            if settings::find("STATUS_TOKEN").is_some_and(|setting| setting.example == token) {
                self.warn("STATUS_TOKEN", "is the example that everybody knows");
            } else if token.len() < MIN_TOKEN_CHARS {
                self.warn(
                    "STATUS_TOKEN",
                    format!(
                        "is short enough to be guessed; take {MIN_TOKEN_CHARS} characters or more, as `openssl rand -hex 16` makes them"
                    ),
                );
            }
            match &listen {
                None => self.warn("STATUS_TOKEN", "has no effect without METRICS_LISTEN"),
                // A name is looked up, and warned about, when it is listened on: the check waits for no name server.
                Some(Endpoint::Address(address)) if !address.ip().is_loopback() => {
                    self.warn("METRICS_LISTEN", IN_THE_OPEN);
                }
                Some(_) => {}
            }
        }
        Ok(Status { listen, token })
    }
}
