//! Tables as they are on a large installation after some years, made by the database itself.

use crate::support::database::Database;

/// The login of a sender, as SQL makes it of the number in `n`; [`crate::load::sender`] makes the same.
const LOGIN: &str =
    "CONCAT('sender', CASE WHEN n < 10 THEN '0' ELSE '' END, TRIM(CAST(n AS CHAR(12))), '@example.com')";

/// The words that differ.
struct Words {
    /// The numbers from 1 to one, as `n`.
    numbers: fn(u64) -> String,
    usage: &'static str,
    analyze: &'static str,
}

fn words(database: &Database) -> Words {
    let driver = database.settings().into_iter().find(|(name, _)| name == "DB_DRIVER").map(|(_, driver)| driver);
    match driver.as_deref() {
        Some("mysql") => Words {
            numbers: |most| format!("(SELECT seq AS n FROM seq_1_to_{most}) AS numbers"),
            usage: "`usage`",
            analyze: "ANALYZE TABLE ratelimits; ANALYZE TABLE messages",
        },
        Some("postgres") => Words {
            numbers: |most| format!("generate_series(1, {most}) AS numbers (n)"),
            usage: "usage",
            analyze: "ANALYZE",
        },
        _ => Words {
            numbers: |most| {
                format!(
                    "(WITH RECURSIVE counted (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM counted WHERE n < {most}) \
                     SELECT n FROM counted) AS numbers"
                )
            },
            usage: "usage",
            // What was written goes into the database now, and not while it is measured.
            analyze: "ANALYZE; PRAGMA wal_checkpoint(TRUNCATE)",
        },
    }
}

/// Gives empty tables so many senders, numbered from 1, and so many messages of theirs.
pub fn fill(database: &Database, senders: u64, messages: u64) {
    let Words { numbers, analyze, .. } = words(database);
    let session = database.session();
    session.execute(&format!(
        "INSERT INTO ratelimits (id, sender, quota, quota_reset, msg_counter, rcpt_counter, msg_total, rcpt_total) \
         SELECT n, {LOGIN}, 4294967295, 4294967295, 0, 0, 0, 0 FROM {}",
        numbers(senders)
    ));
    if messages > 0 {
        session.execute(&format!(
            "INSERT INTO messages (ratelimit_id, msgid, sender, rcpt_count, blocked, from_addr, to_addr, subject, \
             client_address, client_name, action, reason) \
             SELECT 1 + n % {senders}, '4bYz1k0Wlxz1', 'sender@example.com', 1, 0, 'sender@example.com', 'to@example.org', '', \
             '192.0.2.25', 'client.example.com', 'DUNNO', '' FROM {}",
            numbers(messages)
        ));
    }
    session.execute(analyze);
}

/// Makes the last days before `now` (seconds since 1970) known of all senders that there are, and where they sent from.
pub fn teach(database: &Database, days: u64, now: u64) {
    const DAY: u64 = 24 * 3600;
    if days == 0 {
        return;
    }
    let Words { numbers, .. } = words(database);
    let session = database.session();
    // Numbered from 1.
    let senders = u64::try_from(database.rows("ratelimits")).unwrap();
    // In the order of their key: a server with little memory would else read and write each page again for each day.
    for part in 0..days {
        let (after, until) = (senders * part / days, senders * (part + 1) / days);
        session.execute(&format!(
            "INSERT INTO days (ratelimit_id, day, messages, recipients, hour_messages, hour_recipients, day_messages, \
             day_recipients) SELECT id, {} - n, 9, 12, 2, 5, 9, 12 FROM ratelimits, {} \
             WHERE id > {after} AND id <= {until} ORDER BY id, n DESC",
            now / DAY,
            numbers(days)
        ));
    }
    session.execute(&format!(
        "INSERT INTO networks (ratelimit_id, network, last_seen) SELECT id, '192.0.2.0/24', {} FROM ratelimits",
        now - DAY
    ));
    // The daemon may have noted its own start.
    session.execute("DELETE FROM meta WHERE name IN ('networks_since', 'networks_until')");
    for (name, at) in [("networks_since", now - days * DAY), ("networks_until", now)] {
        session.execute(&format!("INSERT INTO meta (name, value) VALUES ('{name}', '{at}')"));
    }
    session.execute(words(database).analyze);
}

/// Blocks so many of the first senders, until somebody ends it.
pub fn block(database: &Database, blocks: u64) {
    if blocks == 0 {
        return;
    }
    let session = database.session();
    let numbers = (words(database).numbers)(blocks);
    session.execute(&format!("INSERT INTO blocks (account, since, note) SELECT {LOGIN}, 1, 'a ticket' FROM {numbers}"));
    session.execute("INSERT INTO revisions (name, number) VALUES ('blocks', 1)");
}

/// Makes these senders, and gives each so many messages in the days that end at `now` (seconds since 1970), in every
/// minute of them.
pub fn fill_days(database: &Database, senders: &[String], days: u64, messages: u64, now: u64) {
    let minutes = days * 24 * 60;
    let Words { numbers, usage, .. } = words(database);
    let (last, each) = (now / 60, messages.div_ceil(minutes));
    let session = database.session();
    for sender in senders {
        session.execute(&format!(
            "INSERT INTO ratelimits (sender, quota, quota_reset) VALUES ('{sender}', 4294967295, 4294967295)"
        ));
        session.execute(&format!(
            "INSERT INTO {usage} (ratelimit_id, minute, messages, recipients, bytes) \
             SELECT ratelimits.id, {last} + 1 - n, {each}, {each}, 0 FROM ratelimits, {} WHERE sender = '{sender}'",
            numbers(minutes)
        ));
    }
}
