//! The page in a real browser: what people see, and what it must never do with a stranger's text.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod support;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use serde_json::json;
use support::chromium::Chromium;
use support::client::{Client, Request};
use support::daemon::{Daemon, Setup};
use support::examples;
use support::stream::free_port;

const TOKEN: &str = "correct horse battery staple";

fn start(setup: Setup) -> (Daemon, String) {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let setup = setup.setting("METRICS_LISTEN", &address.to_string());
    (setup.start_on_tables(), format!("http://{address}/"))
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
