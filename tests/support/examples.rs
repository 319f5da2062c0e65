//! A mail server's ordinary day, for pictures: senders as a hoster has them, office hours, a newsletter, an account that
//! somebody has phished, and what was refused of it. And a crowd, for bounds.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use super::daemon::Setup;
use super::database::Database;

/// When in a day somebody sends.
#[derive(Clone, Copy)]
enum Habit {
    Office,
    Evening,
    AllDay,
    Morning,
    /// Since so many minutes.
    Lately(i64),
}

/// Login, quota, recipients in the last 24 hours, recipients in a message, when.
const SENDERS: [(&str, i64, i64, i64, Habit); 34] = [
    ("accounts@lighthouse-travel.example.com", 1500, 3002, 18, Habit::Lately(140)),
    ("newsletter@gardenclub.example.org", 5000, 4711, 40, Habit::Morning),
    ("a.kowalski@example.com", 1500, 1500, 9, Habit::Lately(55)),
    ("crm@brightwater.example.net", 3000, 2644, 3, Habit::AllDay),
    ("shop@oak-and-iron.example.com", 1500, 1287, 1, Habit::AllDay),
    ("frontdesk@hotel-meridian.example.com", 1500, 611, 2, Habit::AllDay),
    ("monitoring@example.net", 1500, 576, 1, Habit::AllDay),
    ("tickets@helpdesk.example.com", 1500, 533, 1, Habit::Office),
    ("notary@vandermeer.example.com", 1500, 402, 3, Habit::Office),
    ("elena.petrova@example.com", 1500, 344, 4, Habit::Office),
    ("school.office@riverside.example.org", 1500, 318, 22, Habit::Morning),
    ("jürgen.weiß@example.com", 1500, 241, 2, Habit::Office),
    ("team@podcast.example.org", 1500, 196, 6, Habit::Evening),
    ("m.okafor@example.com", 1500, 171, 2, Habit::Office),
    ("bookings@dr-haddad.example.com", 1500, 163, 1, Habit::Office),
    ("lindqvist@example.net", 1500, 154, 3, Habit::Evening),
    ("info@cafe-aurora.example.com", 1500, 131, 2, Habit::AllDay),
    ("s.nakamura@example.com", 1500, 122, 2, Habit::Office),
    ("parish@st-anne.example.org", 1500, 118, 14, Habit::Evening),
    ("hello@studio-nord.example.com", 1500, 96, 2, Habit::Office),
    ("invoices@brightwater.example.net", 1500, 91, 1, Habit::Office),
    ("r.fontaine@example.com", 1500, 84, 2, Habit::Office),
    ("coach@rowing.example.org", 1500, 77, 11, Habit::Evening),
    ("ana.sousa@example.com", 1500, 63, 2, Habit::Office),
    ("workshop@bikeworks.example.com", 1500, 58, 1, Habit::Office),
    ("t.larsen@example.net", 1500, 51, 2, Habit::Evening),
    ("press@museum.example.org", 1500, 44, 9, Habit::Office),
    ("k.mbeki@example.com", 1500, 37, 2, Habit::Office),
    ("orders@florist.example.com", 1500, 29, 1, Habit::AllDay),
    ("i.horvat@example.com", 1500, 22, 1, Habit::Evening),
    ("library@riverside.example.org", 1500, 17, 2, Habit::Office),
    ("d.oconnor@example.com", 1500, 12, 1, Habit::Office),
    ("printer@vandermeer.example.com", 200, 8, 1, Habit::Office),
    ("backup@example.net", 4_294_967_295, 6, 1, Habit::AllDay),
];

/// Whose account somebody else uses.
pub const PHISHED: &str = SENDERS[0].0;

/// One of those who send now.
pub fn login(turn: u64) -> &'static str {
    SENDERS[3 + usize::try_from(turn * 7 % 24).unwrap()].0
}

/// The policy of these pictures.
pub fn policy(setup: Setup) -> Setup {
    setup
        .setting("QUOTA", "1500")
        .setting("QUOTA_WINDOW", "24h")
        .setting("QUOTA_STEPS", "0.8x NOTIFY; 1x HOLD quota exceeded; 2x REJECT max quota exceeded")
        .setting("LIMITS", "400 recipients/10m DEFER slow down; 8 networks/1h HOLD many networks")
}

/// Writes that day into tables that are empty.
pub fn write(database: &Database) {
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap();
    let mut sql = String::from("BEGIN;");
    let mut dice = 0x2545_f491_4f6c_dd1d_u64;
    let mut roll = |most: i64| {
        // xorshift: the same day every time.
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        i64::try_from(dice >> 33).unwrap() % most.max(1)
    };
    for (place, (login, quota, recipients, size, habit)) in SENDERS.into_iter().enumerate() {
        let id = place + 1;
        let mut minutes = std::collections::BTreeMap::new();
        let mut left = recipients;
        while left > 0 {
            let minute = match habit {
                Habit::AllDay => roll(24 * 60),
                Habit::Lately(minutes) => roll(minutes),
                // The picture's day ends in the afternoon.
                Habit::Office => 10 + (roll(240) + roll(240)),
                Habit::Morning => 300 + roll(70) + roll(50),
                Habit::Evening => 1050 + (roll(140) + roll(140)),
            };
            let amount = size.min(left);
            left -= amount;
            let held: &mut (i64, i64) = minutes.entry(now / 60 - 1 - minute).or_default();
            held.0 += 1;
            held.1 += amount;
        }
        let messages: i64 = minutes.values().map(|(messages, _)| messages).sum();
        let last = minutes.keys().next_back().copied().unwrap() * 60 + roll(50);
        write!(
            sql,
            "INSERT INTO ratelimits (id, sender, quota, quota_reset, msg_counter, rcpt_counter, msg_total, rcpt_total, \
             created_at, updated_at) VALUES ({id}, '{login}', {quota}, {quota}, {messages}, {recipients}, {}, {}, \
             datetime({}, 'unixepoch'), datetime({last}, 'unixepoch'));",
            messages * 61,
            recipients * 58,
            now - 86_400 * (90 + roll(600)),
        )
        .unwrap();
        // The highest day of the last weeks. Some send more today.
        let usual = match place {
            0 => 38,
            2 => 410,
            9 => 121,
            _ => recipients * (105 + 4 * (place as i64 % 7)) / 100,
        };
        write!(
            sql,
            "INSERT INTO days (ratelimit_id, day, messages, recipients, hour_messages, hour_recipients, day_messages, \
             day_recipients) VALUES ({id}, {}, 1, {usual}, 1, 1, 1, {usual});",
            now / 86_400 - 20
        )
        .unwrap();
        for (minute, (messages, recipients)) in minutes {
            write!(
                sql,
                "INSERT INTO usage (ratelimit_id, minute, messages, recipients, bytes) \
                 VALUES ({id}, {minute}, {messages}, {recipients}, {});",
                messages * 20_000
            )
            .unwrap();
        }
    }
    let mut refuse = |id: usize, ago: i64, recipients: i64, network: i64, action: &str, reason: &str| {
        write!(
            sql,
            "INSERT INTO messages (ratelimit_id, msgid, sender, rcpt_count, blocked, from_addr, client_address, client_name, \
             created_at, action, reason) VALUES ({id}, '4bX{:06X}z', '{login}', {recipients}, 1, '{login}', \
             '203.0.113.{network}', 'unknown', datetime({}, 'unixepoch'), '{action}', '{reason}');",
            9_000_000 - ago * 7,
            now - ago,
            login = SENDERS[id - 1].0,
        )
        .unwrap();
    };
    for number in 0..64 {
        refuse(1, 4800 - number * 31, 18, 10 + number % 40, "HOLD", "1x quota 1500");
    }
    refuse(19, 2700, 14, 7, "DEFER", "400 recipients/10m");
    for number in 0..47 {
        refuse(1, 2500 - number * 52, 18, 10 + number % 40, "REJECT", "2x quota 1500");
        if number % 6 == 0 && number > 10 {
            refuse(3, 2500 - number * 52 - 13, 9, 61, "HOLD", "1x quota 1500");
        }
    }
    sql.push_str("COMMIT;");
    database.execute(&sql);
}

/// So many senders in empty tables; each has sent one more than the one before.
pub fn crowd(database: &Database, count: usize) {
    let mut sql = String::from("BEGIN;");
    for number in 1..=count {
        write!(
            sql,
            "INSERT INTO ratelimits (id, sender, quota, msg_counter, rcpt_counter) \
             VALUES ({number}, 'user{number:05}@example.com', 100000, {number}, {number});"
        )
        .unwrap();
    }
    sql.push_str("COMMIT;");
    database.execute(&sql);
}
