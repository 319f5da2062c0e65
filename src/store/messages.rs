//! The audit log, `messages`: a row per request that charged something or was refused.

use sqlx::{Encode, Executor, QueryBuilder, Type};

use super::charset::{Charset, narrow_text};
use super::dialect::{ConnectionOf, Dialect};
use super::in_statements;
use super::script::Script;

/// A row of the audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRow {
    pub ratelimit_id: i64,
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
pub async fn insert<D: Dialect>(
    script: &mut Script<'_, D>,
    rows: &[AuditRow],
    now: i64,
    charset: Charset,
) -> Result<(), sqlx::Error>
where
    for<'c> &'c mut ConnectionOf<D>: Executor<'c, Database = D::Db>,
    for<'q> i64: Encode<'q, D::Db> + Type<D::Db>,
    for<'q> String: Encode<'q, D::Db> + Type<D::Db>,
{
    let text = |text: &str, most: usize| narrow_text(cut(text, most), charset).into_owned();
    let (open, close) = D::FROM_EPOCH;
    for slice in in_statements(rows) {
        let write = |sql: &mut QueryBuilder<D::Db>| {
            sql.push(
                "INSERT INTO messages (ratelimit_id, msgid, sender, rcpt_count, blocked, from_addr, to_addr, \
             client_address, client_name, action, reason, created_at) ",
            );
            sql.push_values(slice, |mut values, row| {
                values.push_bind(row.ratelimit_id);
                values.push_bind(text(&row.queue_id, 255));
                values.push_bind(text(&row.sender, 255));
                values.push_bind(i64::from(row.recipients));
                values.push_bind(i64::from(row.blocked));
                values.push_bind(text(&row.from, 255));
                values.push_bind(text(&row.to, 512));
                values.push_bind(text(&row.client_address, 45));
                values.push_bind(text(&row.client_name, 255));
                values.push_bind(text(&row.action, 32));
                values.push_bind(text(&row.reason, 255));
                values.push(open).push_bind_unseparated(now).push_unseparated(close);
            });
        };
        script.run(write).await?;
    }
    Ok(())
}

/// At most `most` characters, as VARCHAR counts them.
fn cut(text: &str, most: usize) -> &str {
    text.char_indices().nth(most).and_then(|(end, _)| text.get(..end)).unwrap_or(text)
}
