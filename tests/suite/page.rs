//! The page on METRICS_LISTEN: who may see names, under which address, and that its figures are those of the database.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::support::client::Request;
use crate::support::daemon::{Daemon, Setup};
use crate::support::examples;
use crate::support::http::{self, Message, ask_as, try_ask_as};
use crate::support::port::Port;
use crate::support::proxy::Proxy;
use crate::support::server::Server;
use crate::support::stream::Address;
use crate::support::wait;
use flate2::read::GzDecoder;
use jiff::tz::TimeZone;
use policyd_rate_guard::config::{self, Sources};
use policyd_rate_guard::policy::lists::Lists;
use policyd_rate_guard::status::{Collector, Sender, Sort};
use policyd_rate_guard::store::Store;
use serde_json::{Value, json};
use tokio::runtime::Builder;

const TOKEN: &str = "correct horse battery staple";
const LIMIT: Duration = Duration::from_secs(20);
/// All that names senders.
const PATHS: [&str; 3] = ["/api/status", "/api/sender/1", "/api/find?name=e"];

fn start(setup: Setup) -> Daemon {
    setup.with_metrics().setting("STATUS_TOKEN", TOKEN).start()
}

fn address(daemon: &Daemon) -> SocketAddr {
    daemon.setup().metrics_address()
}

fn get(daemon: &Daemon, path: &str, headers: &str) -> Message {
    ask_as("127.0.0.1", address(daemon), "GET", path, headers)
}

fn authorized(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

/// What the right token is shown.
fn shown(daemon: &Daemon, path: &str) -> Value {
    let answer = get(daemon, path, &authorized(TOKEN));
    assert_eq!(answer.status(), 200, "{path}: {}", answer.body);
    serde_json::from_str(&answer.body).unwrap()
}

/// The snapshot, once it is as wanted: it may be a moment old.
fn await_status(daemon: &Daemon, wanted: impl Fn(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    let started = Instant::now();
    while started.elapsed() < LIMIT {
        last = shown(daemon, "/api/status");
        if wanted(&last) {
            return last;
        }
        thread::sleep(Duration::from_millis(50));
    }
    panic!("never as wanted: {last:#}");
}

fn sender<'a>(snapshot: &'a Value, name: &str) -> &'a Value {
    let senders = snapshot["senders"].as_array().unwrap_or_else(|| panic!("no senders in {snapshot}"));
    senders.iter().find(|sender| sender["sender"] == name).unwrap_or(&Value::Null)
}

#[test]
fn the_page_itself_is_for_everybody_and_strict() {
    let daemon = start(Setup::sqlite());
    daemon.connect().ask(&Request::data("alice@example.com", 1));
    let page = get(&daemon, "/", "");
    assert_eq!((page.status(), page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert!(page.body.starts_with("<!doctype html>") && !page.body.contains("alice"));
    let policy = page.header("content-security-policy").unwrap();
    for directive in [
        "default-src 'none'",
        "connect-src 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "form-action 'none'",
        "require-trusted-types-for 'script'",
    ] {
        assert!(policy.split("; ").any(|one| one == directive), "{directive} in {policy}");
    }
    assert!(!policy.contains("unsafe") && !policy.contains('*') && policy.matches("'sha256-").count() == 2, "{policy}");
    for path in ["/", "/api/daemon", "/api/status", "/nothing"] {
        let answer = get(&daemon, path, "");
        for (name, value) in [
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
            ("x-content-type-options", "nosniff"),
            ("cache-control", "no-store"),
            ("cross-origin-resource-policy", "same-origin"),
            ("content-security-policy", policy),
        ] {
            assert_eq!(answer.header(name), Some(value), "{path}: {name}");
        }
        assert!(answer.header("access-control-allow-origin").is_none());
    }
    assert_eq!(
        ask_as("localhost", address(&daemon), "OPTIONS", "/api/status", "").status(),
        405,
        "no other site may ask"
    );
    assert_eq!(ask_as("localhost", address(&daemon), "HEAD", "/", "").status(), 200);
}

#[test]
fn names_take_the_token() {
    let daemon = start(Setup::sqlite());
    daemon.connect().ask(&Request::data("alice@example.com", 1));
    let refused = |answer: Message, error: &str| {
        assert!(!answer.body.contains("alice"), "{}", answer.body);
        assert_eq!(answer.status(), 401, "{}", answer.body);
        assert!(answer.body.contains(&format!(r#""error":"{error}""#)), "{}", answer.body);
    };
    for path in PATHS {
        refused(get(&daemon, path, ""), "token_missing");
        refused(get(&daemon, path, &authorized("wrong")), "wrong_token");
        refused(get(&daemon, path, &authorized(&TOKEN[1..])), "wrong_token");
        refused(get(&daemon, path, &format!("Authorization: Basic {TOKEN}\r\n")), "token_missing");
        refused(get(&daemon, path, &format!("Cookie: token={TOKEN}\r\n")), "token_missing");
        // An address ends in logs, so it opens nothing.
        let sign = if path.contains('?') { '&' } else { '?' };
        refused(get(&daemon, &format!("{path}{sign}token=correct+horse+battery+staple"), ""), "token_missing");
        let answer = get(&daemon, path, &authorized(TOKEN));
        assert!(answer.status() == 200 && answer.body.contains("alice@example.com"), "{path}: {}", answer.body);
    }
    let counters = get(&daemon, "/api/daemon", "");
    assert_eq!(counters.status(), 200);
    assert!(!counters.body.contains("alice") && counters.body.contains(r#""token":true"#), "{}", counters.body);
    let log = daemon.log();
    assert!(log.contains("somebody showed a wrong STATUS_TOKEN"), "{log}");
    assert!(!log.contains("horse"), "{log}");
}

#[test]
fn without_a_token_in_the_settings_there_are_no_names() {
    let mut daemon = Setup::sqlite().with_metrics().start();
    daemon.connect().ask(&Request::data("alice@example.com", 1));
    for path in PATHS {
        for headers in ["", "Authorization: Bearer \r\n", "Authorization: Bearer None\r\n"] {
            let answer = get(&daemon, path, headers);
            assert_eq!(answer.status(), 403, "{}", answer.body);
            assert!(
                !answer.body.contains("alice") && answer.body.contains("STATUS_TOKEN is not set"),
                "{}",
                answer.body
            );
        }
    }
    assert!(get(&daemon, "/api/daemon", "").body.contains(r#""token":false"#));
    // A reload is enough, to set it and to take it away.
    daemon.change_setting("STATUS_TOKEN", TOKEN);
    daemon.hup();
    assert_eq!(sender(&shown(&daemon, "/api/status"), "alice@example.com")["recipients"], 1);
    daemon.change_setting("STATUS_TOKEN", "another one, long enough");
    daemon.hup();
    assert_eq!(get(&daemon, "/api/status", &authorized(TOKEN)).status(), 401);
}

#[test]
fn a_reload_that_shows_names_in_the_open_says_so() {
    // To the daemon it is a name; the resolver knows it for 0.0.0.0.
    let port = Port::free();
    let listen = format!("0x0:{}", port.number());
    let mut daemon = Setup::sqlite().setting("METRICS_LISTEN", &listen).start();
    daemon.await_log("the page is on");
    assert!(!daemon.log().contains("cross the network"), "without a token there are no names");
    daemon.change_setting("STATUS_TOKEN", TOKEN);
    daemon.hup();
    daemon.await_log(&format!("METRICS_LISTEN={listen}: 0.0.0.0:"));
    daemon.await_log("STATUS_TOKEN and names cross the network");
}

#[test]
fn only_names_that_no_stranger_can_own_are_answered() {
    let daemon = start(Setup::sqlite());
    let port = address(&daemon).port();
    for path in ["/", "/api/daemon", "/api/status", "/api/sender/1", "/nothing"] {
        for host in ["rebind.example.net", &format!("rebind.example.net:{port}"), "", "127.0.0.1.example.net"] {
            let answer = ask_as(host, address(&daemon), "GET", path, &authorized(TOKEN));
            assert_eq!(answer.status(), 421, "{host} {path}");
            assert!(answer.body.starts_with("The page is shown under an IP address or `localhost` only"));
        }
        // Two names are one too many.
        let answer = ask_as("localhost", address(&daemon), "GET", path, "Host: rebind.example.net\r\n");
        assert!([400, 421].contains(&answer.status()), "{}", answer.start);
        let absolute = format!("http://rebind.example.net{path}");
        assert_eq!(ask_as("localhost", address(&daemon), "GET", &absolute, &authorized(TOKEN)).status(), 421);
    }
    for host in ["127.0.0.1", "localhost", "LOCALHOST:9", "[::1]:9464", "192.0.2.1"] {
        let answer = ask_as(host, address(&daemon), "GET", "/api/status", &authorized(TOKEN));
        assert_eq!(answer.status(), 200, "{host}");
    }
    // Prometheus and load balancers come under any name.
    assert_eq!(http::get(address(&daemon), "/metrics").status(), 200);
    assert_eq!(http::get(address(&daemon), "/healthz").status(), 200);
}

/// Ends what others do until then, also when the test fails.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_hundred_guessers_keep_neither_the_right_token_nor_a_scrape_waiting() {
    let daemon = start(Setup::sqlite());
    let address = address(&daemon);
    let (asked, done) = (AtomicUsize::new(0), AtomicBool::new(false));
    let guess = || {
        let answers = std::iter::repeat_with(|| {
            try_ask_as("localhost", address, "GET", "/api/status", &authorized("a guess")).ok()
        });
        for answer in answers.take_while(|_| !done.load(Ordering::Relaxed)) {
            asked.fetch_add(1, Ordering::Relaxed);
            // Some lose their connection to others, which is no answer either.
            assert!(answer.is_none_or(|answer| [401, 429].contains(&answer.status())));
        }
    };
    thread::scope(|scope| {
        let _ending = Ending(&done);
        (0..100).for_each(|_| drop(scope.spawn(guess)));
        wait::until(Duration::from_secs(20), "many guesses", || (asked.load(Ordering::Relaxed) > 200).then_some(()));
        for _ in 0..9 {
            for (path, headers) in
                [("/api/status", authorized(TOKEN)), ("/healthz", String::new()), ("/metrics", String::new())]
            {
                assert_eq!(ask_as("localhost", address, "GET", path, &headers).status(), 200, "{path}");
            }
        }
    });
    assert!(daemon.log().matches("wrong STATUS_TOKEN").count() <= 2, "said once a minute\n{}", daemon.log());
}

#[test]
fn the_figures_are_those_of_the_database() {
    figures(Setup::sqlite());
}

fn figures_on_a_server<S: Server>() {
    figures(Setup::on(&S::shared().database()));
}

fn figures(setup: Setup) {
    let daemon = start(
        setup
            .setting("QUOTA", "20")
            .setting("QUOTA_WINDOW", "24h")
            .setting("QUOTA_STEPS", "1x HOLD full; 2x REJECT far too full")
            .setting("LIMITS", "5 messages/10m DEFER slow down"),
    );
    let mut client = daemon.connect();
    for (login, messages, recipients) in [("few", 2, 3), ("full", 4, 9), ("quick", 9, 1), ("b&amp;<i>\"'", 1, 1)] {
        for _ in 0..messages {
            client.ask(&Request::data(login, recipients));
        }
    }
    daemon.setup().run("sender", &["set", "boss", "--quota", "unlimited"]);
    daemon.setup().run("sender", &["set", "@example.com", "--quota", "7"]);
    client.ask(&Request::data("boss", 5));
    let snapshot = await_status(&daemon, |snapshot| sender(snapshot, "boss")["recipients"] == 5);
    let names: Vec<&str> =
        snapshot["senders"].as_array().unwrap().iter().map(|sender| sender["sender"].as_str().unwrap()).collect();
    assert_eq!(names, ["full", "few", "quick", "b&amp;<i>\"'", "boss"], "by share of the quota, and no domain's row");
    let full = sender(&snapshot, "full");
    assert_eq!((&full["messages"], &full["recipients"], &full["quota"]), (&4.into(), &36.into(), &20.into()));
    assert_eq!((&full["blocked"], &full["held"]), (&2.into(), &2.into()));
    assert_eq!(full["next"]["action"], "HOLD");
    assert_eq!(full["next"]["limit"], "1x quota 20");
    assert!(full["next"]["free_at"].as_i64().unwrap() > snapshot["at"].as_i64().unwrap());
    let hours = |sender: &Value| -> Vec<i64> {
        sender["hours"].as_array().unwrap().iter().map(|hour| hour.as_i64().unwrap()).collect()
    };
    assert_eq!((hours(full).len(), hours(full).iter().sum::<i64>()), (24, 36));
    let quick = sender(&snapshot, "quick");
    assert_eq!((&quick["messages"], &quick["blocked"], &quick["held"]), (&5.into(), &4.into(), &Value::Null));
    assert_eq!((&quick["next"]["action"], &quick["next"]["limit"]), (&"DEFER".into(), &"5 messages/10m".into()));
    let boss = sender(&snapshot, "boss");
    assert_eq!((&boss["quota"], &boss["next"]), (&Value::Null, &Value::Null));
    assert_eq!(snapshot["blocked_now"], 2);
    let totals = &snapshot["totals"];
    assert_eq!((&totals["known"], &totals["active"]), (&5.into(), &5.into()));
    assert_eq!((&totals["recipients"], &totals["messages"]), (&53.into(), &13.into()));
    assert_eq!(snapshot["complete"], true);
    let refused = &snapshot["refused"];
    assert_eq!((&refused["blocked"], &refused["held"], &refused["known"]), (&6.into(), &2.into(), &true.into()));
    let last = refused["last"].as_array().unwrap();
    let told: Vec<(&str, &str, i64)> = last
        .iter()
        .map(|one| (one["sender"].as_str().unwrap(), one["action"].as_str().unwrap(), one["count"].as_i64().unwrap()))
        .collect();
    assert_eq!(told, [("quick", "DEFER", 4), ("full", "HOLD", 2)], "who keeps trying hides nobody");
    assert!(last[0]["reason"].as_str().unwrap().starts_with("5 messages/10m"), "{last:?}");
    assert_eq!(snapshot["policy"]["window"], "24h");
    assert_eq!(snapshot["policy"]["limits"][0], "5 messages/10m DEFER slow down");

    // One sender, as `sender show --json` tells it but for its story.
    let mut told: Value =
        serde_json::from_slice(&daemon.setup().run("sender", &["show", "full", "--json"]).stdout).unwrap();
    assert!(told.as_object_mut().unwrap().remove("story").is_some());
    let page = shown(&daemon, &format!("/api/sender/{}", full["id"]));
    assert_eq!(page, told);
    assert_eq!(shown(&daemon, "/api/sender/999999"), Value::Null);
    let found = shown(&daemon, "/api/find?name=UIC");
    assert_eq!((&found["senders"][0]["sender"], found["senders"].as_array().unwrap().len()), (&"quick".into(), 1));
    assert_eq!(shown(&daemon, "/api/find?name=%25")["senders"].as_array().unwrap().len(), 0, "a sign is a sign");

    // Whoever is freed is shown so.
    daemon.setup().run("sender", &["reset", "full"]);
    await_status(&daemon, |snapshot| sender(snapshot, "full")["recipients"] == 0 && snapshot["blocked_now"] == 1);
}

#[test]
fn who_is_on_a_list_is_shown_by_what_it_says() {
    let setup = Setup::sqlite().setting("QUOTA", "1");
    let (allow, deny) = (setup.folder().join("allow"), setup.folder().join("deny"));
    let write = |allowed: &str, denied: &str| {
        fs::write(&allow, allowed).unwrap();
        fs::write(&deny, denied).unwrap();
    };
    write("", "");
    let setup = setup.setting("ALLOWLIST", allow.to_str().unwrap()).setting("DENYLIST", deny.to_str().unwrap());
    let mut daemon = start(setup);
    let mut client = daemon.connect();
    for login in ["allowed", "denied", "full"] {
        (0..2).for_each(|_| drop(client.ask(&Request::data(login, 1))));
    }
    await_status(&daemon, |snapshot| snapshot["blocked_now"] == 3);
    write("allowed\n", "denied\n");
    daemon.hup();
    let snapshot = await_status(&daemon, |snapshot| snapshot["blocked_now"] == 2);
    let next = |name: &str| sender(&snapshot, name)["next"].clone();
    assert_eq!(next("allowed"), Value::Null);
    assert_eq!(next("denied"), json!({ "action": "HOLD", "limit": "DENYLIST denied", "free_at": null }));
    assert_eq!(next("full")["limit"], "1x quota 1");
    let shown = shown(&daemon, &format!("/api/sender/{}", sender(&snapshot, "allowed")["id"]));
    assert_eq!(shown["listed"], json!({ "list": "ALLOWLIST", "entry": "allowed", "now": true }));
}

fn the_usual_on_a_server<S: Server>() {
    the_usual(Setup::on(&S::shared().database()));
}

#[test]
fn what_is_usual_and_who_is_above_it_is_shown() {
    the_usual(Setup::sqlite());
}

fn the_usual(setup: Setup) {
    let daemon = start(setup.setting("QUOTA", "100").setting("QUOTA_WINDOW", "24h"));
    let mut client = daemon.connect();
    for (login, messages) in [("more", 3), ("less", 2), ("new", 4)] {
        (0..messages).for_each(|_| drop(client.ask(&Request::data(login, 5))));
    }
    let today = jiff::Timestamp::now().as_second() / (24 * 3600);
    for (login, highest) in [("more", 12), ("less", 30)] {
        daemon.database().execute(&format!(
            "INSERT INTO days (ratelimit_id, day, messages, recipients, hour_messages, hour_recipients, day_messages, \
             day_recipients) SELECT id, {}, 2, {highest}, 1, 5, 2, {highest} FROM ratelimits WHERE sender = '{login}'",
            today - 5
        ));
    }
    let snapshot = await_status(&daemon, |snapshot| sender(snapshot, "new")["recipients"] == 20);
    assert_eq!((&sender(&snapshot, "more")["usual"], &snapshot["above_usual"]), (&Value::Null, &0.into()), "five days");
    daemon.database().execute("UPDATE days SET day = day - 15");
    let snapshot = await_status(&daemon, |snapshot| !sender(snapshot, "more")["usual"].is_null());
    let usual = ["more", "less", "new"].map(|name| sender(&snapshot, name)["usual"].as_i64());
    assert_eq!((usual, &snapshot["above_usual"]), ([Some(12), Some(30), None], &1.into()));
}

/// On a large database everybody is read seldom, and in between those who are busy.
fn busy_senders_are_read_in_between<S: Server>() {
    in_between(Setup::on(&S::shared().database()));
}

crate::on_each_server! {
    figures_on_a_server
    the_usual_on_a_server
    busy_senders_are_read_in_between
    a_connection_is_open_only_while_somebody_looks
    a_server_that_hangs_is_said_to_and_its_return_is_noticed
}

#[test]
fn who_is_busy_is_read_in_between() {
    in_between(Setup::sqlite());
}

fn in_between(setup: Setup) {
    let daemon = start(setup.setting("QUOTA", "5").setting("QUOTA_WINDOW", "24h"));
    let mut client = daemon.connect();
    for login in ["idle", "busy", "full"] {
        (0..3).for_each(|_| drop(client.ask(&Request::data(login, 1))));
    }
    let variables: Vec<(String, String)> =
        daemon.database().settings().into_iter().chain([("QUOTA_WINDOW".to_owned(), "24h".to_owned())]).collect();
    // Nor is the machine's own settings file looked for.
    let sources = Sources { search: Vec::new(), ..Sources::new(None, variables, false) };
    let config = config::load(&sources).unwrap().config;
    let terms = config.terms(Lists::default(), TimeZone::UTC);
    let mut store = Store::new(&config.database);
    // After the first look it rests for ever.
    let mut collector = Collector::with_rest(Sort::Name, u32::MAX);
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let mut look = || {
        let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap();
        let snapshot = runtime.block_on(collector.collect(&mut store, &terms, now)).unwrap();
        let one = |sender: &Sender| (sender.sender.clone(), sender.recipients, sender.blocked);
        snapshot.senders.iter().map(one).collect::<Vec<_>>()
    };
    let sender = |name: &str, recipients, blocked| (name.to_owned(), recipients, blocked);
    assert_eq!(look(), [sender("busy", 3, 0), sender("full", 3, 0), sender("idle", 3, 0)]);
    (0..2).for_each(|_| drop(client.ask(&Request::data("busy", 1))));
    (0..4).for_each(|_| drop(client.ask(&Request::data("full", 1))));
    client.ask(&Request::data("a newcomer", 1));
    daemon.database().execute("DELETE FROM ratelimits WHERE sender = 'idle'");
    // Nobody has looked for the idle one, and so he is there still; all others are as they are now.
    assert_eq!(look(), [sender("a newcomer", 1, 0), sender("busy", 5, 0), sender("full", 5, 2), sender("idle", 3, 0)]);
    // Whoever was full is looked after: he may be freed by hand.
    assert!(daemon.setup().run("sender", &["reset", "full"]).status.success());
    assert_eq!(look()[2], sender("full", 0, 2));
}

#[test]
fn counters_are_what_counts_where_no_window_slides() {
    let daemon = start(Setup::sqlite().setting("QUOTA", "3").setting("MESSAGE_LOG", "False"));
    let mut client = daemon.connect();
    (0..5).for_each(|_| drop(client.ask(&Request::data("alice", 1))));
    let snapshot = await_status(&daemon, |snapshot| sender(snapshot, "alice")["messages"] == 5);
    let alice = sender(&snapshot, "alice");
    assert_eq!((&alice["next"]["action"], &alice["next"]["limit"]), (&"DEFER_IF_PERMIT".into(), &"1x quota 3".into()));
    assert!(alice["next"]["free_at"].is_i64());
    assert_eq!((&snapshot["policy"]["window"], &snapshot["refused"]["known"]), (&"reset".into(), &false.into()));
    assert!(daemon.setup().run("cleanup", &[]).status.success());
    let snapshot = await_status(&daemon, |snapshot| sender(snapshot, "alice")["messages"] == 0);
    assert_eq!(sender(&snapshot, "alice")["next"], Value::Null);
}

#[test]
fn a_strangers_text_is_data() {
    let daemon = start(Setup::sqlite());
    let login = "<script>alert(1)</script>@example.com";
    daemon.connect().ask(&Request::data(login, 1));
    let answer = get(&daemon, "/api/status", &authorized(TOKEN));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    let snapshot: Value = serde_json::from_str(&answer.body).unwrap();
    // A backslash sets it apart from the keys of envelope senders.
    assert_eq!(snapshot["senders"][0]["sender"], format!("\\{login}"));
}

#[test]
fn what_is_not_news_is_not_sent() {
    let daemon = start(Setup::sqlite());
    let mut client = daemon.connect();
    client.ask(&Request::data("alice@example.com", 1));
    let answer = get(&daemon, "/api/status", &authorized(TOKEN));
    let tag = answer.header("etag").unwrap().to_owned();
    let again = |tag: &str| get(&daemon, "/api/status", &format!("{}If-None-Match: {tag}\r\n", authorized(TOKEN)));
    assert_eq!((again(&tag).status(), again(&tag).body.as_str()), (304, ""));
    assert_eq!(get(&daemon, "/api/status", &format!("If-None-Match: {tag}\r\n")).status(), 401);
    client.ask(&Request::data("alice@example.com", 1));
    let news = wait::until(LIMIT, "news", || Some(again(&tag)).filter(|answer| answer.status() == 200));
    assert_ne!(news.header("etag"), Some(tag.as_str()));
}

#[test]
fn a_crowd_is_bounded_packed_and_can_be_searched() {
    let daemon = start(Setup::sqlite());
    examples::crowd(daemon.database(), 10_500);
    let before = daemon.resident();
    let snapshot = await_status(&daemon, |snapshot| snapshot["totals"]["known"] == 10_500);
    let senders = snapshot["senders"].as_array().unwrap();
    assert_eq!((senders.len(), &snapshot["complete"]), (10_000, &false.into()));
    assert_eq!(senders[0]["sender"], "user10500@example.com");
    assert_eq!(sender(&snapshot, "user00400@example.com"), &Value::Null);
    let found = shown(&daemon, "/api/find?name=user004");
    assert_eq!(found["senders"].as_array().unwrap().len(), 100);
    assert_eq!(shown(&daemon, "/api/find?name=user")["senders"].as_array().unwrap().len(), 200);
    // A sender who sends is there at once, wherever he was.
    daemon.connect().ask(&Request::data("newcomer@example.com", 1));
    daemon.database().execute("UPDATE ratelimits SET rcpt_counter = 90000 WHERE sender = 'newcomer@example.com'");
    await_status(&daemon, |snapshot| snapshot["senders"][0]["sender"] == "newcomer@example.com");

    let mut stream = TcpStream::connect(address(&daemon)).unwrap();
    let request = format!(
        "GET /api/status HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: gzip\r\nConnection: close\r\n{}\r\n",
        authorized(TOKEN)
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let head = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    assert!(String::from_utf8_lossy(&answer[..head]).contains("content-encoding: gzip"));
    let mut text = String::new();
    GzDecoder::new(&answer[head..]).read_to_string(&mut text).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["senders"].as_array().unwrap().len(), 10_000);
    assert!(answer.len() * 5 < text.len(), "{} of {} bytes", answer.len(), text.len());
    let grown = daemon.resident().saturating_sub(before);
    assert!(grown < 64 << 20, "{} MB more", grown >> 20);
}

/// The processor time of a process's threads, in ticks: those that answer mail, and those of the page.
fn ticks(daemon: &Daemon) -> (u64, u64) {
    let (mut mail, mut page) = (0, 0);
    for task in fs::read_dir(format!("/proc/{}/task", daemon.id())).unwrap() {
        // A thread may end meanwhile.
        let Ok(stat) = fs::read_to_string(task.unwrap().path().join("stat")) else { continue };
        let (name, rest) = stat.split_once('(').unwrap().1.rsplit_once(')').unwrap();
        let fields: Vec<&str> = rest.split_whitespace().collect();
        // utime and stime, see proc_pid_stat(5).
        let spent = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        match name {
            "tokio-rt-worker" => mail += spent,
            "page" | "status" => page += spent,
            _ => {}
        }
    }
    (mail, page)
}

#[test]
fn what_the_page_costs_takes_nothing_from_the_threads_of_mail() {
    let daemon = start(Setup::sqlite());
    examples::crowd(daemon.database(), 10_000);
    let mut client = daemon.connect();
    assert_eq!(client.ask(&Request::data("alice@example.com", 1)), "DUNNO");
    // Who asks and never reads the answer holds up neither.
    let deaf: Vec<TcpStream> = (0..10)
        .map(|_| {
            let mut stream = TcpStream::connect(address(&daemon)).unwrap();
            let request = format!("GET /api/status HTTP/1.1\r\nHost: 127.0.0.1\r\n{}\r\n", authorized(TOKEN));
            stream.write_all(request.as_bytes()).unwrap();
            stream
        })
        .collect();
    let (mail, page) = ticks(&daemon);
    let (for_mail, for_the_page) = wait::until(LIMIT * 3, "the page has cost something", || {
        assert!(!get(&daemon, "/api/status", &authorized(TOKEN)).body.is_empty());
        let (mail_now, page_now) = ticks(&daemon);
        (page_now - page >= 50).then_some((mail_now - mail, page_now - page))
    });
    assert!(for_mail < for_the_page / 10, "{for_mail} of the threads of mail, {for_the_page} of the page's own");
    assert_eq!(client.ask(&Request::data("alice@example.com", 1)), "DUNNO");
    let (spent, _) = ticks(&daemon);
    wait::until(LIMIT, "mail is answered by the threads that were looked at", || {
        client.ask(&Request::data("alice@example.com", 1));
        (ticks(&daemon).0 > spent).then_some(())
    });
    drop(deaf);
}

#[test]
fn many_viewers_are_one_look() {
    let daemon = start(Setup::sqlite());
    examples::crowd(daemon.database(), 2_000);
    let address = address(&daemon);
    let ask = || {
        let answer = ask_as("localhost", address, "GET", "/api/status", &authorized(TOKEN));
        answer.header("etag").expect("an answer with a tag").to_owned()
    };
    // Every look finds something new, and so has a tag of its own.
    let done = AtomicBool::new(false);
    let (before, tags) = thread::scope(|scope| {
        scope.spawn(|| {
            let session = daemon.database().session();
            while !done.load(Ordering::Relaxed) {
                session.execute("UPDATE ratelimits SET msg_counter = msg_counter + 1, rcpt_counter = rcpt_counter + 1");
                session.execute("UPDATE usage SET messages = messages + 1, recipients = recipients + 1");
            }
        });
        let before = ask();
        wait::until(LIMIT, "something new", || (ask() != before).then_some(()));
        let viewers: Vec<_> = (0..30).map(|_| scope.spawn(ask)).collect();
        let tags: BTreeSet<String> = viewers.into_iter().map(|viewer| viewer.join().unwrap()).collect();
        done.store(true, Ordering::Relaxed);
        (before, tags)
    });
    // At most one look in a second, and thirty asked at once.
    assert!(!tags.contains(&before) && tags.len() <= 5, "{tags:?}");
}

fn a_connection_is_open_only_while_somebody_looks<S: Server>() {
    let database = S::shared().database();
    let daemon = start(Setup::on(&database));
    let session = database.session();
    let open = || session.number(S::COUNT_SESSIONS);
    // Our own and the daemon's, which begins with another for a moment.
    let alone = || wait::until(Duration::from_secs(60), "nobody else is connected", || (open() == 2).then_some(()));
    alone();
    shown(&daemon, "/api/status");
    assert_eq!(open(), 3, "it has a connection of its own");
    alone();
    shown(&daemon, "/api/status");
}

#[test]
fn without_a_database_the_counters_live() {
    let setup = Setup::sqlite().setting("DB_DATABASE", "/nonexistent/folder/file.db").with_metrics();
    let daemon = setup.setting("STATUS_TOKEN", TOKEN).start_without_tables();
    daemon.connect().ask(&Request::data("alice@example.com", 1));
    let told = shown(&daemon, "/api/status");
    assert!(told["unavailable"].as_str().unwrap().contains("/nonexistent/folder/file.db"), "{told}");
    let counters: Value = serde_json::from_str(&get(&daemon, "/api/daemon", "").body).unwrap();
    let counters = &counters["daemon"];
    assert_eq!(
        (&counters["database_up"], &counters["from_memory"], &counters["decisions"]),
        (&false.into(), &1.into(), &1.into())
    );
    assert!(counters["database_since"].as_i64() >= counters["started"].as_i64());
}

#[test]
fn a_database_in_memory_is_said_to_be_so() {
    let daemon =
        Setup::sqlite().setting("DB_DATABASE", ":memory:").with_metrics().setting("STATUS_TOKEN", TOKEN).start();
    assert!(shown(&daemon, "/api/status")["unavailable"].as_str().unwrap().contains(":memory:"));
}

fn a_server_that_hangs_is_said_to_and_its_return_is_noticed<S: Server>() {
    let database = S::shared().database();
    let proxy = Proxy::tcp(Address::Tcp(S::shared().address()));
    let daemon = start(Setup::on(&database.over_tcp(proxy.tcp_address())));
    daemon.connect().ask(&Request::data("alice@example.com", 1));
    await_status(&daemon, |snapshot| sender(snapshot, "alice@example.com")["recipients"] == 1);
    proxy.refuse();
    proxy.drop_connections();
    let told = wait::until(Duration::from_secs(60), "the page says that the database is away", || {
        Some(shown(&daemon, "/api/status")).filter(|told| told.get("unavailable").is_some())
    });
    assert!(told.get("senders").is_none(), "{told}");
    proxy.resume();
    let snapshot = wait::until(LIMIT, "the page has senders again", || {
        Some(shown(&daemon, "/api/status")).filter(|told| told.get("senders").is_some())
    });
    assert_eq!(sender(&snapshot, "alice@example.com")["recipients"], 1);
    // One that says nothing: nobody waits for it, and what was seen last is given with its age.
    proxy.freeze();
    let mut age = 0;
    wait::until(Duration::from_secs(60), "an answer that is old", || {
        let asked = Instant::now();
        let answer = get(&daemon, "/api/status", &authorized(TOKEN));
        assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
        age = answer.header("age").map_or(0, |age| age.parse().unwrap());
        (age >= 2).then_some(())
    });
    assert_eq!(get(&daemon, "/api/daemon", "").status(), 200);
    proxy.resume();
}

#[test]
fn check_tells_what_a_token_needs() {
    let check = |setup: Setup| {
        let output = setup.run("check", &[]);
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr),
        )
    };
    let (status, told) = check(Setup::sqlite().with_metrics().setting("STATUS_TOKEN", "short"));
    assert!(status == Some(0) && told.contains("short enough to be guessed") && !told.contains("\"short\""), "{told}");
    let (_, told) = check(Setup::sqlite().with_metrics().setting("STATUS_TOKEN", TOKEN));
    assert!(!told.contains("STATUS_TOKEN: ") || !told.contains("warning"), "{told}");
    let (_, told) = check(Setup::sqlite().setting("STATUS_TOKEN", TOKEN));
    assert!(told.contains("has no effect without METRICS_LISTEN"), "{told}");
    let everywhere = Setup::sqlite().setting("METRICS_LISTEN", "0.0.0.0:9464").setting("STATUS_TOKEN", TOKEN);
    assert!(check(everywhere).1.contains("cross the network"));
    let (status, told) = check(Setup::sqlite().with_metrics().setting("STATUS_TOKEN", "schlüssel und noch mehr"));
    assert!(status == Some(78) && told.contains("letters without accents") && !told.contains("schl"), "{told}");
}
