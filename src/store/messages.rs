//! The audit log, `messages`: a row per request that charged something or was refused.

use super::charset::{Charset, narrow_text};
use super::failure::Failure;
use super::script::Script;
use super::sql::in_statements;

/// A row of the audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRow {
    /// When it was decided, in seconds since 1970.
    pub at: i64,
    pub ratelimit_id: i64,
    /// The mail server that answered.
    pub host: String,
    pub queue_id: String,
    pub sender: String,
    pub recipients: u32,
    pub blocked: bool,
    pub from: String,
    pub to: String,
    pub client_address: String,
    pub client_name: String,
    pub action: String,
    pub reason: String,
}

/// Writes the rows, many in a statement. Texts are cut to their columns and to what `charset` can hold: an audit row never
/// fails for its values.
pub async fn insert(script: &mut Script<'_>, rows: &[AuditRow], charset: Charset) -> Result<(), Failure> {
    let text = |text: &str, most: usize| narrow_text(cut(text, most), charset).into_owned();
    for slice in in_statements(rows) {
        let mut sql = script.sql(
            "INSERT INTO messages (ratelimit_id, msgid, sender, rcpt_count, blocked, from_addr, to_addr, \
             client_address, client_name, action, reason, created_at, host) ",
        );
        sql.push_rows(slice, |values, row| {
            values.bind(row.ratelimit_id).bind(text(&row.queue_id, 255)).bind(text(&row.sender, 255));
            values.bind(row.recipients).bind(i64::from(row.blocked));
            values.bind(text(&row.from, 255)).bind(text(&row.to, 512));
            values.bind(text(&row.client_address, 45)).bind(text(&row.client_name, 255));
            values.bind(text(&row.action, 32)).bind(text(&row.reason, 255)).time(row.at);
            values.bind(text(&row.host, 255));
        });
        script.run(sql).await?;
    }
    Ok(())
}

/// At most `most` characters, as VARCHAR counts them.
pub fn cut(text: &str, most: usize) -> &str {
    text.char_indices().nth(most).and_then(|(end, _)| text.get(..end)).unwrap_or(text)
}
