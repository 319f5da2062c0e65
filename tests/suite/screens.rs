//! `watch` as it is drawn, at the sizes that terminals have: pictures in text, in `tests/screens/`. To write them anew after a
//! change: `UPDATE=1 cargo test --test suite screens`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use jiff::tz::TimeZone;
use policyd_rate_guard::commands::watch::screen::draw::{View, draw};
use policyd_rate_guard::commands::watch::screen::figures::{Contact, Figures, OneSender, Own, Progress};
use policyd_rate_guard::commands::watch::screen::look::Look;
use policyd_rate_guard::commands::watch::screen::state::{Key, Seen, State};
use policyd_rate_guard::config::{self, Sources};
use policyd_rate_guard::limiter::decide::{Policy, Standing};
use policyd_rate_guard::limiter::explain::explain;
use policyd_rate_guard::limiter::history::History;
use policyd_rate_guard::limiter::increase::Increase;
use policyd_rate_guard::policy::lists::Lists;
use policyd_rate_guard::status::about::About;

use policyd_rate_guard::status::snapshot::{Next, PolicyShown, Refused, Sender, Snapshot, Sort, Totals};
use policyd_rate_guard::store::queued;
use policyd_rate_guard::store::refusals::Refusal;
use policyd_rate_guard::store::report::{Logged, Part};
use policyd_rate_guard::store::senders::SenderRow;
use policyd_rate_guard::telemetry::counters::{Counters, Rate};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::style::Color;

/// 2027-01-15 12:00:07 UTC.
const NOW: i64 = 1_800_014_407;
const PLAIN: Look = Look { colour: false, unicode: true };

static POLICY: LazyLock<Policy> = LazyLock::new(|| {
    let settings = [
        ("QUOTA", "1000"),
        ("QUOTA_WINDOW", "24h"),
        ("QUOTA_STEPS", "0.8x NOTIFY; 1x HOLD quota exceeded; 2x REJECT max quota exceeded"),
        (
            "LIMITS",
            "300 recipients/5m DEFER slow down; 8 networks/1h WARN many networks; 100 recipients/message REJECT",
        ),
    ];
    // No file but this one, whatever there is on this machine.
    let empty = tempfile::NamedTempFile::new().unwrap();
    let loaded = config::load(&Sources::new(Some(empty.path().to_owned()), settings, false)).unwrap();
    loaded.config.terms(Lists::default(), TimeZone::UTC).policy
});

fn senders() -> Vec<Sender> {
    let names = [
        ("newsletter@shop.example", Some(1000), 1412, 7, 7),
        ("alice@example.com", Some(1000), 1003, 3, 3),
        ("office@example.org", Some(500), 461, 0, 0),
        ("jürgen.müller@example.de", Some(1000), 803, 0, 0),
        ("phished@example.net", Some(50), 2101, 345, 12),
        ("\u{1b}[2Jevil\u{202e}\u{5d0}e\u{301}@example.com", Some(1000), 12, 0, 0),
        ("山田太郎@example.jp", Some(1000), 640, 0, 0),
        ("backup@example.com", None, 12_345, 0, 0),
        ("endless@example.com", Some(u32::MAX - 1), 3_123_456_789, 0, 0),
        ("nobody@example.com", Some(0), 0, 2, 0),
        ("bob@example.com", Some(1000), 9, 0, 0),
        ("carol@example.com", Some(1000), 1, 0, 0),
        ("dave.with.a.very.long.name.indeed.which.fits.nowhere.at.all@a.long.domain.example.com", Some(1000), 77, 0, 0),
        ("<bounces@list.example.com>", Some(1000), 0, 0, 0),
    ];
    let sender = |(id, (name, quota, used, blocked, held)): (usize, (&str, Option<u32>, u64, i64, i64))| {
        let over = quota.is_some_and(|quota| used >= u64::from(quota));
        let twice = quota.is_some_and(|quota| used >= 2 * u64::from(quota));
        Sender {
            id: id as i64,
            sender: name.to_owned(),
            quota,
            messages: used / 2,
            recipients: used,
            // Of those whose quota is 1,000, what is usual lies below, within and beyond what they used.
            usual: quota.filter(|quota| *quota == 1000).map(|_| 120 + 60 * id as u64),
            last: NOW - 7 * (id as i64) * 1000,
            blocked,
            held,
            next: over.then(|| Next {
                action: if twice { "REJECT" } else { "HOLD" }.to_owned(),
                limit: "1x quota 1000".to_owned(),
                free_at: Some(NOW + 600),
            }),
            hours: (0..24).map(|hour| (hour * (id as u64 + 3) * 7919) % 100 * used / 100).collect(),
        }
    };
    let mut senders: Vec<Sender> = names.into_iter().enumerate().map(sender).collect();
    Sort::Share.sort(&mut senders);
    senders
}

fn refusals() -> Vec<Refusal> {
    let refusal = |(number, (sender, action, reason)): (usize, (&str, &str, &str))| Refusal {
        at: NOW - 3 - 61 * (number as i64) * (number as i64) * (number as i64),
        id: Some(1),
        sender: sender.to_owned(),
        queue_id: format!("4F9D19543{number:02}C"),
        recipients: 1 + 40 * number as i64,
        from: sender.to_owned(),
        client_address: if number % 2 == 0 { "192.0.2.7".to_owned() } else { "2001:db8::1".to_owned() },
        action: action.to_owned(),
        reason: reason.to_owned(),
        count: [345, 3, 12_345_678, 7, 40, 12, 2, 1][number],
        first: NOW - 4000,
    };
    [
        ("phished@example.net", "REJECT", "2x quota 50: 2101"),
        ("alice@example.com", "HOLD", "1x quota 1000: 1004"),
        ("\u{1b}]0;owned\u{7}@x", "DEFER_IF_PERMIT", "300 recipients/5m: 301"),
        ("newsletter@shop.example", "HOLD", "1x quota 1000: 1412"),
        ("phished@example.net", "450", "300 recipients/5m: 333"),
        ("phished@example.net", "HOLD", "1x quota 50: 51"),
        ("bob@example.com", "REJECT", "100 recipients/message: 242"),
        ("carol@example.com", "REJECT", "deny list"),
    ]
    .into_iter()
    .enumerate()
    .map(refusal)
    .collect()
}

fn figures() -> Figures {
    let senders = senders();
    let snapshot = Snapshot {
        at: NOW - 1,
        policy: PolicyShown::new(&POLICY),
        totals: Totals { at: NOW - 40, known: 14, active: 12, messages: 9_876, recipients: 18_761 },
        complete: true,
        blocked_now: senders.iter().filter(|sender| sender.next.is_some()).count(),
        above_usual: senders.iter().filter(|sender| sender.is_above_usual()).count(),
        senders,
        hours_from: NOW - 24 * 3600,
        refused: Refused { known: true, from: NOW - 24 * 3600, blocked: 357, held: 22, last: refusals() },
    };
    let counters = Counters {
        version: "1.0.0".to_owned(),
        started: NOW - 5000,
        decisions: 1_000_000,
        connections: 64,
        connections_limit: 900,
        queue_depth: 3,
        database_up: true,
        ..Counters::default()
    };
    let rate = Some(Rate { decisions: 49.7, transaction: Some(0.0012), decision: Some(0.0021) });
    let actions = vec![("pass", 47.4), ("reject", 1.9), ("hold", 0.4)];
    let mut figures = Figures {
        place: "SQLite file /var/lib/policyd-rate-guard/policyd-rate-guard.db".to_owned(),
        database: Contact::Up(Duration::from_micros(3456)),
        snapshot: Some(snapshot),
        daemon: Own::Asked {
            address: "127.0.0.1:9464".to_owned(),
            contact: Contact::Up(Duration::ZERO),
            told: Some(Box::new(Progress { counters, rate, actions })),
        },
        ..Figures::default()
    };
    for second in 0..130 {
        let messages = 30 * second + second * second / 10;
        figures.paces.add(NOW - 130 + second, messages, messages * 19 / 10);
    }
    figures
}

fn about() -> About {
    let mut history = History::default();
    for minute in 0..60 {
        history.add(Increase { messages: 5, recipients: 18, bytes: 0 }, NOW - 3600 + minute * 60);
    }
    let standing = Standing { quota: 1000, messages: 300, recipients: 1080, history };
    let hour = |number: i64| {
        let recipients = if number < 6 { 0 } else { (number * 7919) % 450 };
        (NOW - NOW % 3600 - (23 - number) * 3600, Part { id: 1, part: number, messages: recipients / 2, recipients })
    };
    let blocked = refusals().into_iter().map(|refusal| Logged {
        at: refusal.at,
        queue_id: refusal.queue_id,
        recipients: refusal.recipients,
        from: refusal.from,
        client_address: refusal.client_address,
        client_name: "mail.example.com".to_owned(),
        action: refusal.action,
        reason: refusal.reason,
        state: queued::State::Untouched,
        state_at: 0,
    });
    About {
        days: Vec::new(),
        row: SenderRow {
            id: 1,
            sender: "alice@example.com".to_owned(),
            quota: 1000,
            quota_reset: 500,
            locked: false,
            messages: 300,
            recipients: 1080,
            total_messages: 45_678,
            total_recipients: 123_456,
            window_from: 0,
            created_at: NOW - 90 * 86_400,
            updated_at: NOW - 61,
        },
        listed: None,
        block: None,
        blocks: Vec::new(),
        strikes: Vec::new(),
        explained: explain(&POLICY, &standing, NOW),
        hours: (0..24).map(hour).collect(),
        blocked: blocked.collect(),
    }
}

fn drawn(figures: &Figures, state: &State, look: Look, (width, height): (u16, u16)) -> (Buffer, Seen) {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    let mut seen = Seen::default();
    let view = View { figures, state, policy: &POLICY, now: NOW, interval: Duration::from_secs(2), look };
    terminal.draw(|frame| seen = draw(frame, &view)).unwrap();
    (terminal.backend().buffer().clone(), seen)
}

/// The text of a screen: each line without blanks at its end.
fn text(buffer: &Buffer) -> String {
    let mut text = String::new();
    for y in 0..buffer.area.height {
        let mut line = String::new();
        let mut x = 0;
        while x < buffer.area.width {
            let symbol = buffer[(x, y)].symbol();
            line.push_str(symbol);
            // A character of two cells has the second one, too.
            x += u16::try_from(ratatui::text::Span::raw(symbol).width().max(1)).unwrap();
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Compares a screen with its picture.
fn is_as(name: &str, figures: &Figures, state: &State, look: Look, size: (u16, u16)) {
    let (buffer, _) = drawn(figures, state, look, size);
    let text = text(&buffer);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/screens/{name}-{}x{}.txt", size.0, size.1));
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, &text).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        text == expected,
        "{}: run UPDATE=1 cargo test --test suite screens, and look at it\n{text}",
        path.display()
    );
}

/// What these keys lead to. `\n` is Enter.
fn after(figures: &Figures, keys: &str) -> State {
    let mut state = State::default();
    for key in keys.chars() {
        let key = if key == '\n' { Key::Enter } else { Key::Character(key) };
        state.key(key, &figures.snapshot.as_ref().unwrap().senders, Seen::default());
    }
    state
}

fn opened() -> (Figures, State) {
    let asked = OneSender { name: "alice@example.com".to_owned(), about: Some(about()) };
    let figures = Figures { about: Some(asked), ..figures() };
    let state = after(&figures, "/alice\n\n");
    assert_eq!(state.opened(), Some("alice@example.com"));
    (figures, state)
}

#[test]
fn the_list_of_senders() {
    for size in [(80, 24), (200, 50), (40, 10)] {
        is_as("senders", &figures(), &State::default(), PLAIN, size);
    }
    is_as("senders-ascii", &figures(), &State::default(), Look { unicode: false, ..PLAIN }, (80, 24));
}

/// The README's picture is a screen like any other, of senders that people might have.
#[test]
fn the_readme_shows_it() {
    const BEGIN: &str = "<!-- screen: UPDATE=1 cargo test --test suite screens writes it anew -->\n```\n";
    const END: &str = "```\n<!-- end of screen -->\n";
    let mut figures = figures();
    let snapshot = figures.snapshot.as_mut().unwrap();
    let is_usual = |sender: &str| sender.chars().all(|one| one.is_ascii_graphic()) && sender.len() < 30;
    let mut others = ["juergen@example.de", "printer@example.org", "dave@example.com", "list@example.net"].into_iter();
    snapshot.senders.retain_mut(|sender| {
        if !is_usual(&sender.sender) {
            sender.sender = others.next().unwrap_or_default().to_owned();
        }
        !sender.sender.is_empty() && (1..1_000_000).contains(&sender.used())
    });
    snapshot.refused.last.retain(|refusal| is_usual(&refusal.sender));
    snapshot.totals.known = snapshot.senders.len() as i64;
    snapshot.totals.active = snapshot.totals.known;
    let (buffer, _) = drawn(&figures, &State::default(), PLAIN, (80, 24));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = fs::read_to_string(&path).unwrap();
    let (before, rest) = readme.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let expected = format!("{before}{BEGIN}{}{END}{after}", text(&buffer));
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, &expected).unwrap();
    }
    assert!(fs::read_to_string(&path).unwrap() == expected, "run: UPDATE=1 cargo test --test suite screens");
}

#[test]
fn one_sender() {
    let (figures, state) = opened();
    for size in [(80, 24), (200, 50), (40, 10)] {
        is_as("sender", &figures, &state, PLAIN, size);
    }
    is_as("sender-ascii", &figures, &state, Look { unicode: false, ..PLAIN }, (80, 24));
    let mut scrolled = state.clone();
    let (_, seen) = drawn(&figures, &state, PLAIN, (80, 24));
    scrolled.key(Key::End, &[], seen);
    is_as("sender-end", &figures, &scrolled, PLAIN, (80, 24));
}

#[test]
fn the_help() {
    let state = after(&figures(), "?");
    for size in [(80, 24), (40, 10)] {
        is_as("help", &figures(), &state, PLAIN, size);
    }
}

#[test]
fn what_is_wrong_or_not_known_is_said() {
    let mut trouble = figures();
    trouble.database.lost(NOW - 95, "the database cannot be used: connection \u{1b}[31mrefused".to_owned());
    trouble.snapshot.as_mut().unwrap().at = NOW - 97;
    if let Own::Asked { told: Some(told), .. } = &mut trouble.daemon {
        told.counters.database_up = false;
        told.counters.from_memory = 1234;
        told.counters.fail_open = BTreeMap::from([("deadline", 3), ("commit_unknown", 1)]);
    }
    for size in [(80, 24), (40, 10)] {
        is_as("trouble", &trouble, &State::default(), PLAIN, size);
    }
    if let Own::Asked { contact, .. } = &mut trouble.daemon {
        contact.lost(NOW - 12, "Connection refused (os error 111)".to_owned());
    }
    is_as("no-daemon", &trouble, &State::default(), PLAIN, (80, 24));
    let first = Figures { place: trouble.place, ..Figures::default() };
    is_as("first", &first, &State::default(), PLAIN, (80, 24));
    let mut quiet = figures();
    quiet.daemon = Own::NotAsked;
    let snapshot = quiet.snapshot.as_mut().unwrap();
    snapshot.refused = Refused { known: false, from: 0, blocked: 0, held: 0, last: Vec::new() };
    is_as("without-metrics", &quiet, &State::default(), PLAIN, (80, 24));
}

#[test]
fn what_was_typed_is_seen() {
    let state = after(&figures(), "/EXAMPLE.c");
    is_as("filter", &figures(), &state, PLAIN, (80, 24));
    let endless = after(&figures(), &format!("/{}", "long ".repeat(20)));
    let (buffer, _) = drawn(&figures(), &endless, PLAIN, (80, 24));
    assert!(text(&buffer).lines().last().unwrap().contains("long long _"), "the end is seen");
}

#[test]
fn every_size_is_drawn_and_nothing_from_outside_reaches_the_terminal() {
    let (figures, opened) = opened();
    let help = after(&figures, "?");
    for width in [1, 7, 35, 36, 40, 59, 60, 69, 70, 79, 80, 109, 119, 120, 131, 200, 300] {
        for height in [1, 2, 5, 6, 7, 9, 10, 15, 16, 20, 23, 24, 50, 100] {
            for state in [&State::default(), &opened, &help] {
                for look in [PLAIN, Look { unicode: false, ..PLAIN }] {
                    let (buffer, _) = drawn(&figures, state, look, (width, height));
                    for cell in buffer.content() {
                        let symbol = cell.symbol();
                        assert!(symbol.chars().count() <= 1, "{symbol:?} at {width}x{height}");
                        let is_fine = |one: char| !one.is_control() && (look.unicode || one.is_ascii());
                        assert!(symbol.chars().all(is_fine), "{symbol:?} at {width}x{height}");
                    }
                }
            }
        }
    }
}

#[test]
fn colour_only_repeats_what_is_said_in_words() {
    let (figures, opened) = opened();
    for state in [&State::default(), &opened] {
        let (plain, _) = drawn(&figures, state, PLAIN, (80, 24));
        let (coloured, _) = drawn(&figures, state, Look { colour: true, unicode: true }, (80, 24));
        assert_eq!(text(&plain), text(&coloured));
        assert!(plain.content().iter().all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset));
        assert!(coloured.content().iter().any(|cell| cell.fg == Color::Red));
    }
}
