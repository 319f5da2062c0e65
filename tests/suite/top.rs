//! `top`: policyd's list of who sent most.

use crate::support::client::Request;
use crate::support::daemon::Setup;
use crate::support::server::Server;
use serde_json::Value;

fn top(setup: &Setup, arguments: &[&str]) -> String {
    let output = setup.run("top", arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn json(setup: &Setup, arguments: &[&str]) -> Value {
    let arguments: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
    serde_json::from_str(&top(setup, &arguments)).unwrap()
}

fn names(report: &Value) -> Vec<&str> {
    report["top"].as_array().unwrap().iter().map(|line| line["sender"].as_str().unwrap()).collect()
}

#[test]
fn who_sent_most_is_first() {
    run(Setup::sqlite());
}

fn on_a_server<S: Server>() {
    run(Setup::on(&S::shared().database()));
}

crate::on_each_server! { on_a_server }

fn run(setup: Setup) {
    let daemon =
        setup.setting("QUOTA", "20").setting("QUOTA_WINDOW", "24h").setting("LIMITS", "99 networks/1h").start();
    let mut client = daemon.connect();
    for (sender, messages, recipients) in [("few", 3, 1), ("many", 2, 9), ("blocked", 5, 6)] {
        for number in 0..messages {
            // `few` is seen in three places.
            let place = if sender == "few" { number } else { 0 };
            client.ask(&Request::data(sender, recipients).client_address(format_args!("192.0.{place}.1")));
        }
    }
    let by_recipients = json(daemon.setup(), &[]);
    assert_eq!(names(&by_recipients), ["many", "blocked", "few"]);
    assert_eq!((&by_recipients["recipients"], &by_recipients["senders"]), (&39.into(), &3.into()));
    let blocked = &by_recipients["top"][1];
    let number = |name: &str| blocked[name].as_i64().unwrap();
    assert_eq!((number("recipients"), number("messages"), number("blocked"), number("logged")), (18, 3, 2, 5));
    let parts = blocked["parts"].as_array().unwrap();
    assert_eq!(parts.len(), 24);
    assert_eq!(parts[22].as_i64().unwrap() + parts[23].as_i64().unwrap(), 18, "just now, or before the hour ended");
    assert_eq!(names(&json(daemon.setup(), &["--by", "messages"]))[2], "many");
    assert_eq!(names(&json(daemon.setup(), &["--by", "blocked"])), ["blocked"]);
    assert_eq!(names(&json(daemon.setup(), &["--by", "networks", "-n", "1"])), ["few"]);
    let text = top(daemon.setup(), &["-n", "2"]);
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].ends_with("39 recipients in 8 messages of 3 senders let through"), "{text}");
    assert_eq!(lines[1], "SENDER   RECIPIENTS  MESSAGES  BLOCKED  SHARE  NETWORKS");
    assert_eq!(lines[3], "blocked          18         3        2    40%         1");
    assert_eq!(lines.len(), 4);
    assert!(text.is_ascii(), "a pipe gets plain text");
}
