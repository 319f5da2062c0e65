//! The page in a real browser: what people see, and what it must never do with a stranger's text.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{env, fs, thread};

use crate::support::chromium::Chromium;
use crate::support::client::{Client, Request};
use crate::support::daemon::{Daemon, Setup};
use crate::support::examples;
use serde_json::json;

const TOKEN: &str = "correct horse battery staple";

fn start(setup: Setup) -> (Daemon, String) {
    let daemon = setup.with_metrics().start();
    let url = format!("http://{}/", daemon.setup().metrics_address());
    (daemon, url)
}

/// A browser on the page, once that has heard of the daemon.
fn open(url: &str) -> Chromium {
    let mut chromium = Chromium::start();
    chromium.navigate(url);
    chromium.await_true("document.getElementById('live').dataset.state === 'live'");
    chromium
}

fn log_in(chromium: &mut Chromium, token: &str) {
    chromium.await_true("!document.getElementById('gate-locked').hidden");
    chromium.evaluate("document.getElementById('token').focus()");
    chromium.call("Input.insertText", json!({ "text": token }));
    chromium.evaluate("document.getElementById('form').requestSubmit()");
}

fn unlock(url: &str) -> Chromium {
    let mut chromium = open(url);
    log_in(&mut chromium, TOKEN);
    chromium.await_true("!document.getElementById('names').hidden");
    chromium
}

/// The text of the row whose name holds this.
fn row(name: &str) -> String {
    format!(
        "([...document.querySelectorAll('.row')].find(row => row.textContent.includes({name:?})) || {{}}).innerText"
    )
}

fn html(chromium: &mut Chromium) -> String {
    chromium.text("document.documentElement.outerHTML")
}

#[test]
fn chromium_shows_a_strangers_login_as_text() {
    let (daemon, url) = start(Setup::sqlite().setting("STATUS_TOKEN", TOKEN).setting("QUOTA", "1"));
    let mut client = daemon.connect();
    let logins = [
        "<script>alert(1)</script>@example.com",
        "a<img src=x onerror=alert(2)>@example.com",
        "\"><svg/onload=alert(3)>@example.com",
        "evil\u{202e}moc.elpmaxe@\u{200b}",
    ];
    for login in logins {
        (0..2).for_each(|_| drop(client.ask(&Request::data(login, 1).helo_name(login).client_name(login))));
    }
    let mut chromium = unlock(&url);
    chromium.await_true(
        "document.querySelectorAll('.row').length === 4 && document.querySelectorAll('#feed li').length === 4",
    );
    let names = chromium.evaluate("[...document.querySelectorAll('.row bdi')].map(name => name.textContent).sort()");
    // What begins with `<` is set apart from envelope senders by a backslash; what hides or turns text is written out.
    let shown = [
        "\"><svg/onload=alert(3)>@example.com",
        "\\<script>alert(1)</script>@example.com",
        "a<img src=x onerror=alert(2)>@example.com",
        "evil\\u{202e}moc.elpmaxe@\\u{200b}",
    ];
    assert_eq!(names, json!(shown));
    for place in 0..4 {
        chromium.evaluate(&format!("document.querySelectorAll('.row')[{place}].click()"));
        chromium.await_true("document.querySelectorAll('#sheet .chart').length === 1");
        let name = chromium.text("document.getElementById('sheet-name').textContent");
        assert!(shown.contains(&name.as_str()), "{name}");
        chromium.press("Escape");
        chromium.await_true("!document.getElementById('sheet').open");
    }
    assert_eq!(chromium.evaluate("document.querySelectorAll('script').length"), json!(1));
    assert_eq!(chromium.evaluate("document.querySelectorAll('img, [onerror], [onload]').length"), json!(0));
    assert_eq!(chromium.complaints(), Vec::<String>::new());
    // And were something to slip through, the browser would refuse it.
    let refused = chromium.text("try { document.body.innerHTML = '<i>x</i>'; 'taken' } catch (error) { error.name }");
    assert_eq!(refused, "TypeError");
}

#[test]
fn chromium_without_the_token_is_shown_no_name() {
    let (mut daemon, url) = start(Setup::sqlite());
    daemon.connect().ask(&Request::data("alice@example.com", 1));
    let mut chromium = open(&url);
    chromium.await_true("!document.getElementById('gate-unset').hidden");
    assert!(chromium.text("document.getElementById('gate').innerText").contains("STATUS_TOKEN"));
    daemon.change_setting("STATUS_TOKEN", TOKEN);
    daemon.hup();
    chromium
        .await_true("!document.getElementById('gate-locked').hidden && document.getElementById('gate-unset').hidden");
    let asked = |chromium: &mut Chromium| -> Vec<String> {
        let requests = chromium.events(&["Network.requestWillBeSent"]);
        requests.iter().map(|request| request["request"]["url"].as_str().unwrap().to_owned()).collect()
    };
    assert!(asked(&mut chromium).iter().all(|url| !url.contains("/api/") || url.ends_with("/api/daemon")));
    assert_eq!(chromium.complaints(), Vec::<String>::new());

    log_in(&mut chromium, "a guess that is wrong");
    chromium.await_true("document.getElementById('told').textContent.startsWith('That is not the STATUS_TOKEN')");
    assert!(chromium.evaluate("document.getElementById('names').hidden") == json!(true));
    assert!(!html(&mut chromium).contains("alice"));
    assert_eq!(chromium.evaluate("sessionStorage.length"), json!(0));
    let complaints = chromium.complaints();
    assert!(complaints.len() == 1 && complaints[0].contains("401"), "{complaints:?}");

    log_in(&mut chromium, TOKEN);
    chromium.await_true(&format!("({} || '').includes('alice@example.com')", row("alice")));
    assert!(!html(&mut chromium).contains("horse"), "the token is in no attribute");
    assert!(asked(&mut chromium).iter().all(|url| !url.contains("horse")));
    assert_eq!(chromium.evaluate("localStorage.length + document.cookie.length"), json!(0));
    // It is kept for a reload, and forgotten when asked.
    chromium.navigate(&url);
    chromium.await_true(&format!("({} || '').includes('alice@example.com')", row("alice")));
    chromium.evaluate("document.getElementById('lock').click()");
    assert!(!html(&mut chromium).contains("alice"));
    assert_eq!(chromium.evaluate("sessionStorage.length"), json!(0));
    assert_eq!(chromium.complaints(), Vec::<String>::new());
}

#[test]
fn chromium_follows_the_mail_without_a_reload() {
    let (daemon, url) = start(Setup::sqlite().setting("STATUS_TOKEN", TOKEN).setting("QUOTA", "3"));
    let mut client = daemon.connect();
    client.ask(&Request::data("alice@example.com", 1));
    let mut chromium = unlock(&url);
    chromium.evaluate("window.mark = 'the same page'");
    chromium.await_true(&format!("({} || '').includes('of 3')", row("alice")));
    assert_eq!(chromium.evaluate("document.querySelectorAll('#feed li').length"), json!(0));
    (0..4).for_each(|_| drop(client.ask(&Request::data("alice@example.com", 1))));
    client.ask(&Request::data("bob@example.com", 1));
    chromium.await_true(&format!("/DEFER[^]*5/.test({})", row("alice")));
    chromium.await_true(&format!("({} || '').includes('1')", row("bob")));
    chromium.await_true("document.getElementById('feed').innerText.includes('alice@example.com')");
    chromium.await_true("document.getElementById('blocked-now').textContent === '1'");
    chromium.await_true("/^[0-9]+[.][0-9]$/.test(document.getElementById('rate').textContent)");
    // The open sheet is as live as the list.
    chromium.evaluate(&format!(
        "{}; [...document.querySelectorAll('.row')].find(row => row.textContent.includes('bob')).click()",
        row("bob")
    ));
    chromium.await_true("document.getElementById('sheet-body').innerText.includes('The next mail passes')");
    (0..3).for_each(|_| drop(client.ask(&Request::data("bob@example.com", 1))));
    chromium
        .await_true("document.getElementById('sheet-body').innerText.includes('The next mail gets DEFER_IF_PERMIT')");
    assert_eq!(chromium.text("window.mark"), "the same page");

    // A tab that nobody sees asks nothing.
    chromium.evaluate("Object.defineProperty(document, 'hidden', { value: true, configurable: true }); document.dispatchEvent(new Event('visibilitychange'))");
    chromium.await_true("document.getElementById('live').dataset.state === 'paused'");
    chromium.await_true("!running");
    chromium.events(&["Network.requestWillBeSent"]);
    chromium.evaluate("new Promise(done => setTimeout(done, 3 * PERIOD))");
    assert_eq!(chromium.events(&["Network.requestWillBeSent"]), Vec::<serde_json::Value>::new());
    chromium.evaluate("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))");
    chromium.await_true("document.getElementById('live').dataset.state === 'live'");
    assert_eq!(chromium.complaints(), Vec::<String>::new());
}

#[test]
fn chromium_shows_what_is_usual_and_who_is_above_it() {
    let setup = Setup::sqlite().setting("STATUS_TOKEN", TOKEN).setting("QUOTA", "100").setting("QUOTA_WINDOW", "24h");
    let (daemon, url) = start(setup);
    let mut client = daemon.connect();
    for (login, recipients) in [("more@example.com", 60), ("less@example.com", 20), ("wide@example.com", 2)] {
        client.ask(&Request::data(login, recipients));
    }
    for (login, highest) in [("more", 25), ("less", 40), ("wide", 150)] {
        daemon.database().execute(&format!(
            "INSERT INTO days (ratelimit_id, day, messages, recipients, hour_messages, hour_recipients, day_messages, \
             day_recipients) SELECT id, CAST(strftime('%s', 'now') / 86400 AS INTEGER) - 20, 1, {highest}, 1, {highest}, 1, {highest} \
             FROM ratelimits WHERE sender = '{login}@example.com'"
        ));
    }
    let mut chromium = unlock(&url);
    chromium.await_true("document.querySelectorAll('.row').length === 3");
    // Where the line is, as seen: a part of the bar.
    let line = |name: &str| {
        format!(
            "(() => {{ const row = [...document.querySelectorAll('.row')].find(row => row.textContent.includes('{name}')); \
             const [line, bar] = ['s', '.meter'].map(part => row.querySelector(part).getBoundingClientRect()); \
             return line.width ? Math.round((line.left + line.width / 2 - bar.left) / bar.width * 100) : null }})()"
        )
    };
    assert_eq!(
        ["more", "less", "wide"].map(|name| chromium.evaluate(&line(name))),
        [json!(25), json!(40), json!(null)]
    );
    chromium.await_true(&format!("{}.includes('unusual')", row("more@example.com")));
    chromium.await_true(&format!("{}.includes('so far at most 25')", row("more@example.com")));
    assert!(!chromium.text(&row("less@example.com")).contains("unusual"));
    chromium.evaluate("document.querySelector('[data-only=unusual]').click()");
    chromium.await_true("document.querySelectorAll('.row').length === 1");
    assert!(chromium.text("document.querySelector('.row').innerText").contains("more@example.com"));
    // Narrow screens have room for one more choice.
    chromium.screen(360, 740, 2.0, false);
    chromium.await_true("innerWidth === 360");
    assert_eq!(chromium.evaluate("document.documentElement.scrollWidth <= innerWidth"), json!(true));
    assert_eq!(chromium.complaints(), Vec::<String>::new());
}

#[test]
fn chromium_says_when_the_daemon_has_gone_and_goes_on_when_it_is_back() {
    let (mut daemon, url) = start(Setup::sqlite().setting("STATUS_TOKEN", TOKEN));
    daemon.connect().ask(&Request::data("alice@example.com", 1));
    let mut chromium = unlock(&url);
    chromium.await_true(&format!("({} || '').includes('alice@example.com')", row("alice")));
    daemon.kill9();
    chromium.await_true("document.getElementById('live').dataset.state === 'away'");
    assert!(html(&mut chromium).contains("alice@example.com"), "what was seen last stays");
    daemon.start_again();
    daemon.connect().ask(&Request::data("bob@example.com", 1));
    chromium.await_true("document.getElementById('live').dataset.state === 'live'");
    chromium.await_true(&format!("({} || '').includes('bob@example.com')", row("bob")));

    // The database goes while the daemon stays.
    let (daemon, url) = start(Setup::sqlite().setting("STATUS_TOKEN", TOKEN).setting("DB_DATABASE", ":memory:"));
    daemon.connect().ask(&Request::data("alice@example.com", 1));
    chromium.navigate(&url);
    log_in(&mut chromium, TOKEN);
    chromium.await_true("document.getElementById('banner').innerText.includes('The database cannot be read')");
    chromium.await_true("document.getElementById('legend').innerText.includes('1 passed')");
}

#[test]
fn chromium_scrolls_through_ten_thousand_senders() {
    let (daemon, url) = start(Setup::sqlite().setting("STATUS_TOKEN", TOKEN));
    examples::crowd(daemon.database(), 10_000);
    let mut chromium = unlock(&url);
    chromium.await_true("document.querySelector('#rows li')?.getAttribute('aria-setsize') === '10000'");
    let measured = chromium.evaluate(
        "new Promise(done => {
            const height = document.documentElement.scrollHeight, watch = new MutationObserver(() => {});
            watch.observe(document.getElementById('rows'), { childList: true });
            let steps = 0, most = 0, drawn = 0;
            const step = () => {
                watch.takeRecords();
                scrollTo(0, height * (steps++ % 50) / 50);
                render(false);
                drawn = Math.max(drawn, watch.takeRecords().length);
                most = Math.max(most, document.querySelectorAll('.row').length);
                if (steps < 150) requestAnimationFrame(step);
                else done({ drawn, most, height });
            };
            requestAnimationFrame(step);
        })",
    );
    let number = |name: &str| measured[name].as_f64().unwrap();
    assert!(number("height") > 500_000.0, "{measured}");
    assert!(number("most") < 60.0, "only rows that can be seen exist: {measured}");
    // Each jump takes a screen of rows away and draws another one, however many senders there are.
    assert!((1.0..120.0).contains(&number("drawn")), "{measured}");
    chromium.evaluate("scrollTo(0, 0)");
    chromium.await_true("document.querySelector('.row bdi').textContent === 'user10000@example.com'");
    // By keyboard to the end, and back.
    chromium.evaluate("document.querySelector('.row').focus()");
    chromium.press("End");
    chromium.await_true("document.activeElement.innerText.includes('user00001@example.com')");
    chromium.press("ArrowUp");
    chromium.await_true("document.activeElement.innerText.includes('user00002@example.com')");
    chromium.press("Home");
    chromium.await_true("document.activeElement.innerText.includes('user10000@example.com')");
    chromium.evaluate("document.getElementById('search').focus()");
    chromium.call("Input.insertText", json!({ "text": "USER00077" }));
    chromium.await_true("document.querySelectorAll('.row').length === 1");
    assert_eq!(chromium.text("document.querySelector('.row bdi').textContent"), "user00077@example.com");
    assert_eq!(chromium.complaints(), Vec::<String>::new());
}

/// Whoever is not among the ten thousand is searched for: nobody is said not to be there as long as that is not known.
#[test]
fn chromium_searches_for_whoever_is_not_in_the_list_until_it_knows() {
    let (daemon, url) = start(Setup::sqlite().setting("STATUS_TOKEN", TOKEN));
    examples::crowd(daemon.database(), 10_500);
    let mut chromium = unlock(&url);
    chromium.await_true("state.snapshot.complete === false");
    // The database takes its time, until it may.
    chromium.evaluate(
        "window.mayAnswer = false;
        const real = window.fetch;
        window.fetch = (path, options) => path.startsWith('/api/find') && !window.mayAnswer
            ? Promise.resolve(new Response(JSON.stringify({ unavailable: 'it takes its time' }))) : real(path, options);
        document.getElementById('search').focus()",
    );
    chromium.call("Input.insertText", json!({ "text": "user00400" }));
    let said = "document.getElementById('empty').textContent";
    chromium.await_true(&format!("{said}.includes('it takes its time')"));
    assert!(!chromium.text(said).contains("No sender has"));
    chromium.evaluate("window.mayAnswer = true");
    chromium.await_true("document.querySelectorAll('.row').length === 1 && document.getElementById('empty').hidden");
    // What is found lives as the list does.
    daemon.database().execute("UPDATE ratelimits SET rcpt_counter = 98765 WHERE sender = 'user00400@example.com'");
    chromium.await_true(&format!("({} || '').includes('98,765')", row("user00400")));
    // Once it is known that there is nobody, that is said.
    chromium.evaluate("document.getElementById('search').select()");
    chromium.call("Input.insertText", json!({ "text": "nobody-at-all" }));
    chromium.await_true(&format!("{said}.includes('No sender has “nobody-at-all” in its name.')"));
    // After a search that took long the next is tried again soon, also in a browser that cannot combine signals.
    chromium.evaluate(
        "rested = Date.now() + 600000;
        AbortSignal.any = undefined;
        const answering = window.fetch;
        window.fetch = (path, options) => {
            if (!path.startsWith('/api/find')) return answering(path, options);
            window.fetch = answering;
            return Promise.reject(new TypeError('the connection is gone'));
        };
        document.getElementById('search').select()",
    );
    chromium.call("Input.insertText", json!({ "text": "user00401" }));
    chromium.await_true(&format!("({} || '').includes('user00401')", row("user00401")));
    assert_eq!(chromium.complaints(), Vec::<String>::new());
}

#[test]
fn chromium_pictures_of_the_page() {
    let (daemon, url) = start(examples::policy(Setup::sqlite().setting("STATUS_TOKEN", TOKEN)));
    examples::write(daemon.database());
    let folder = env::var_os("SCREENSHOTS").map(PathBuf::from);
    let stop = Arc::new(AtomicBool::new(false));
    let policy = daemon.unix_address();
    let sending = {
        let stop = stop.clone();
        thread::spawn(move || {
            let mut client = Client::connect(&policy);
            for turn in 0_u64.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                client.ask(&Request::data(examples::login(turn), 1));
                if turn % 40 < 12 && turn % 3 == 0 {
                    client.ask(&Request::data(examples::PHISHED, 18));
                }
                let pause = 60.0 + 35.0 * (turn as f64 / 90.0).sin() + (turn * 37 % 50) as f64;
                thread::sleep(Duration::from_secs_f64(pause / 1000.0));
            }
        })
    };
    let mut chromium = unlock(&url);
    let pause = env::var("SCREENSHOTS_AFTER").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(5);
    thread::sleep(Duration::from_secs(pause));
    let mut shots = Vec::new();
    for (name, width, height, scale, dark) in [
        ("page-desktop-light", 1280, 800, 1.0, false),
        ("page-desktop-dark", 1280, 800, 1.0, true),
        ("page-phone-light", 390, 844, 2.0, false),
        ("page-phone-dark", 390, 844, 2.0, true),
    ] {
        chromium.screen(width, height, scale, dark);
        if name == "page-desktop-dark" || name == "page-phone-dark" {
            chromium.evaluate(&format!(
                "[...document.querySelectorAll('.row')].find(row => row.textContent.includes('{}')).click()",
                examples::PHISHED
            ));
            chromium.await_true("document.querySelectorAll('#sheet .chart').length === 1");
        }
        thread::sleep(Duration::from_millis(600));
        shots.push((name, chromium.screenshot()));
        chromium.evaluate("document.getElementById('sheet').close()");
    }
    stop.store(true, Ordering::Relaxed);
    sending.join().unwrap();
    if let Some(folder) = folder {
        fs::create_dir_all(&folder).unwrap();
        for (name, png) in shots {
            fs::write(folder.join(format!("{name}.png")), png).unwrap();
        }
    }
    assert_eq!(chromium.complaints(), Vec::<String>::new());
}
