//! Webhook, mail and error reports: from a policy request to a real receiver.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::client::{Client, Request};
use crate::support::clock::noon_here;
use crate::support::daemon::{Daemon, Setup};
use crate::support::database::Database;
use crate::support::http::{Answer, Message, Receiver, get};
use crate::support::port::Port;
use crate::support::postgres::Postgres;
use crate::support::process::{Process, run};
use crate::support::server::Server;
use crate::support::wait;

const LIMIT: Duration = Duration::from_secs(30);

/// With a quota of 2 messages, a webhook at `path` of the receiver, and metrics.
fn with_webhook(setup: Setup, receiver: &Receiver, path: &str) -> Setup {
    setup
        .with_metrics()
        .setting("QUOTA", "2")
        .setting("WEBHOOK_ENABLED", "True")
        .setting("WEBHOOK_URL", &receiver.url(path))
        .setting("WEBHOOK_SECRET", "c2VjcmV0IGtleSBvZiBtaW5l")
}

fn figure(daemon: &Daemon, name: &str, labels: &str) -> u64 {
    let wanted = format!("policyd_rate_guard_{name}{labels} ");
    let scraped = get(daemon.setup().metrics_address(), "/metrics").body;
    let value = scraped.lines().find_map(|line| line.strip_prefix(&wanted));
    value.unwrap_or_else(|| panic!("no {wanted} in\n{scraped}")).parse().unwrap()
}

fn await_figure(daemon: &Daemon, name: &str, labels: &str, least: u64) {
    wait::until(LIMIT, &format!("{name}{labels} to be {least}"), || {
        (figure(daemon, name, labels) >= least).then_some(())
    });
}

fn delivered(daemon: &Daemon, channel: &str, outcome: &str) -> u64 {
    figure(daemon, "notifications_total", &format!("{{channel=\"{channel}\",outcome=\"{outcome}\"}}"))
}

/// Sends so much that the sender passes from not blocked to blocked, and goes on.
fn block(client: &mut Client, sender: &str) {
    for _ in 0..5 {
        client.ask(&Request::data(sender, 1));
    }
}

fn json(message: &Message) -> serde_json::Value {
    serde_json::from_str(&message.body).unwrap()
}

#[test]
fn a_flood_of_strangers_is_summed_up_and_hides_no_account() {
    let receiver = Receiver::start();
    let setup = with_webhook(Setup::sqlite(), &receiver, "/").setting("LIMIT_BY", "sasl_username, sender");
    let mut daemon = setup.start();
    let mut client = daemon.connect();
    for number in 0..60 {
        client.ask(&Request::data("", 3).sender(format_args!("a{number}@example.net")));
    }
    block(&mut client, "alice@example.com");
    let told = receiver.await_requests(11);
    let is_account = |message: &Message| json(message)["sender"] == "alice@example.com";
    assert_eq!(told.iter().filter(|message| is_account(message)).count(), 1);
    assert_eq!(figure(&daemon, "notification_events_total", r#"{outcome="left_out"}"#), 50);
    daemon.await_log("more notices about senders without a login");
    assert_eq!(daemon.term().code(), Some(0));
    let summary = json(receiver.await_requests(12).last().unwrap());
    assert_eq!((&summary["event"], &summary["limit"]), (&"left_out".into(), &"50".into()), "{summary}");
}

/// What Python's standard library makes of it.
fn python(script: &str, arguments: &[&str]) -> String {
    run(Command::new("python3").args(["-c", script]).args(arguments)).trim().to_owned()
}

#[test]
fn a_receiver_of_policyd_rate_guards_webhook_is_told_once() {
    let receiver = Receiver::start();
    let path = "/api/{sender}/{client_name}?from={from_addr}&event={event}&token={token}";
    let daemon = with_webhook(Setup::sqlite(), &receiver, path).environment("TZ", "Asia/Kolkata").start();
    let mut client = daemon.connect();
    let request = |queue_id| {
        Request::data("Alice+x@Example.com", 1)
            .sender("a&b=c@example.com")
            .recipient("bob@example.org")
            .queue_id(queue_id)
            .client_name("ho st/..")
    };
    for queue_id in ["4F9D1A", "4F9D1B", "4F9D1C", "4F9D1D", "4F9D1E"] {
        client.ask(&request(queue_id));
    }
    block(&mut client, "bob@example.com");
    let received = receiver.await_requests(2);
    let (first, body) = (&received[0], json(&received[0]));
    assert_eq!(json(&received[1])["sender"], "bob@example.com", "nothing else about alice");
    let keys: Vec<&String> = body.as_object().unwrap().keys().collect();
    let expected = [
        "msgid",
        "sender",
        "client_address",
        "client_name",
        "rcpt_count",
        "from_addr",
        "to_addr",
        "timestamp",
        "quota",
        "quota_reset",
        "used",
        "event",
        "limit",
        "reason",
        "until",
        "held",
    ];
    assert_eq!(keys, expected, "in PolicydRateGuard's order, and then ours");
    assert_eq!((body["msgid"].as_str(), body["sender"].as_str()), (Some("4F9D1C"), Some("alice+x@example.com")));
    assert_eq!(
        (body["quota"].as_u64(), body["quota_reset"].as_u64(), body["used"].as_u64()),
        (Some(2), Some(2), Some(3))
    );
    assert_eq!((body["rcpt_count"].as_u64(), body["event"].as_str()), (Some(1), Some("quota_reached")));
    assert_eq!(
        (body["client_address"].as_str(), body["to_addr"].as_str()),
        (Some("192.0.2.25"), Some("bob@example.org"))
    );
    let age = python(
        "import sys, datetime as d; z = d.timezone(d.timedelta(hours=5, minutes=30)); \
         t = d.datetime.strptime(sys.argv[1], '%Y-%m-%d %H:%M:%S').replace(tzinfo=z); \
         print(abs((d.datetime.now(z) - t).total_seconds()) < 120)",
        &[body["timestamp"].as_str().unwrap()],
    );
    assert_eq!(age, "True", "{body}");
    let token = python(
        "import sys, hashlib; print(hashlib.sha256((sys.argv[1] + sys.argv[2]).encode()).hexdigest())",
        &["c2VjcmV0IGtleSBvZiBtaW5l", "alice+x@example.com"],
    );
    assert_eq!(
        first.target(),
        format!(
            "/api/alice%2Bx%40example.com/ho%20st%2F..?from=a%26b%3Dc%40example.com&event=quota_reached&token={token}"
        )
    );
    assert!(first.start.starts_with("POST "));
    let agent = concat!("policyd-rate-guard/", env!("CARGO_PKG_VERSION"));
    assert_eq!((first.header("user-agent"), first.header("accept")), (Some(agent), Some("application/json")));
    assert_eq!((first.header("content-type"), first.header("authorization")), (Some("application/json"), None));
    await_figure(&daemon, "notifications_total", r#"{channel="webhook",outcome="delivered"}"#, 2);
}

#[test]
fn a_json_web_token_is_one_to_python() {
    let receiver = Receiver::start();
    let daemon = with_webhook(Setup::sqlite(), &receiver, "/hook").setting("WEBHOOK_USE_JWT", "True").start();
    block(&mut daemon.connect(), "alice@example.com");
    let received = receiver.await_requests(1);
    let token = received[0].header("authorization").unwrap().strip_prefix("Bearer ").unwrap().to_owned();
    let claims = python(
        "import sys, hmac, hashlib, base64, json, time
un = lambda text: base64.urlsafe_b64decode(text + '=' * (-len(text) % 4))
head, body, signature = sys.argv[1].split('.')
key = base64.b64decode(sys.argv[2])
assert hmac.compare_digest(hmac.new(key, f'{head}.{body}'.encode(), hashlib.sha256).digest(), un(signature))
assert json.loads(un(head)) == {'alg': 'HS256', 'typ': 'JWT'}
claims = json.loads(un(body))
assert claims['iat'] == claims['nbf'] <= time.time() < claims['exp'] == claims['iat'] + 60
assert set(claims) == {'sub', 'iss', 'iat', 'nbf', 'exp'}
print(claims['sub'], claims['iss'])",
        &[&token, "c2VjcmV0IGtleSBvZiBtaW5l"],
    );
    assert_eq!(claims, "alice@example.com policyd-rate-guard");
}

#[test]
fn what_fails_for_now_is_delivered_once_in_the_end() {
    let receiver = Receiver::start();
    receiver.will_answer([Answer::Status(500)]);
    let daemon = with_webhook(Setup::sqlite(), &receiver, "/").start();
    block(&mut daemon.connect(), "alice@example.com");
    await_figure(&daemon, "notifications_total", r#"{channel="webhook",outcome="delivered"}"#, 1);
    let received = receiver.received();
    assert_eq!(received.len(), 2);
    assert_eq!(received[0].body, received[1].body);
    assert_eq!(delivered(&daemon, "webhook", "retried"), 1);
    assert_eq!(delivered(&daemon, "webhook", "failed"), 0);
}

#[test]
fn what_is_refused_or_redirected_is_not_tried_again() {
    let (receiver, elsewhere) = (Receiver::start(), Receiver::start());
    receiver.will_answer([Answer::Status(403), Answer::Moved(elsewhere.url("/"))]);
    let mut daemon = with_webhook(Setup::sqlite(), &receiver, "/").start();
    let mut client = daemon.connect();
    block(&mut client, "alice@example.com");
    block(&mut client, "bob@example.com");
    block(&mut client, "carol@example.com");
    await_figure(&daemon, "notifications_total", r#"{channel="webhook",outcome="delivered"}"#, 1);
    assert_eq!(delivered(&daemon, "webhook", "failed"), 2);
    assert_eq!(delivered(&daemon, "webhook", "retried"), 0);
    assert_eq!((receiver.received().len(), elsewhere.received().len()), (3, 0));
    daemon.await_log("telling about alice@example.com failed and is given up: the receiver answered 403");
}

#[test]
fn a_receiver_that_hangs_is_given_up_in_time_and_holds_up_nobody() {
    let receiver = Receiver::start();
    receiver.will_answer((0..20_000).map(|_| Answer::Hang));
    let mut daemon = with_webhook(Setup::sqlite(), &receiver, "/")
        .setting("WEBHOOK_TIMEOUT", "200ms")
        .setting("QUOTA", "0")
        .setting("LOG_LEVEL", "WARNING")
        .start();
    let before = daemon.resident();
    let address = daemon.unix_address();
    let clients: Vec<_> = (0..10)
        .map(|client| {
            let address = address.clone();
            thread::spawn(move || {
                let mut connection = Client::connect(&address);
                for number in 0..1000 {
                    let action = connection.ask(&Request::data(&format!("s{client}.{number}@example.com"), 1));
                    assert!(action.starts_with("DEFER_IF_PERMIT"), "{action}");
                }
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
    // There is something to tell about each of the 10,000. Had answers waited for it, as many calls would have hung by now.
    let calls = receiver.received().len();
    assert!(calls < 1000, "{calls} calls");
    let grown = daemon.resident().saturating_sub(before);
    // 10,000 senders are in the committer's memory of messages, too.
    assert!(grown < 64 << 20, "{} MB more", grown >> 20);
    await_figure(&daemon, "notifications_total", r#"{channel="webhook",outcome="retried"}"#, 1);
    daemon.await_log("failed: no answer in time (WEBHOOK_TIMEOUT); trying again");
    let began = Instant::now();
    assert!(daemon.term().success());
    assert!(began.elapsed() < Duration::from_secs(8), "the end took {:?}", began.elapsed());
    daemon.await_log("notifications were not delivered before the end");
}

/// Two daemons on one database, and a restart: one notice per sender and period.
fn told_once_on(database: &Database) {
    let receiver = Receiver::start();
    let start = || with_webhook(Setup::on(database), &receiver, "/").environment("TZ", &noon_here()).start();
    let (mut one, two) = (start(), start());
    block(&mut one.connect(), "alice@example.com");
    receiver.await_requests(1);
    let again = |daemon: &Daemon, told: u64| {
        database.execute("UPDATE ratelimits SET msg_counter = 0, rcpt_counter = 0");
        block(&mut daemon.connect(), "Alice@example.com");
        await_figure(daemon, "notification_events_total", r#"{outcome="already_told"}"#, told);
    };
    again(&two, 1);
    one.term();
    one.start_again();
    again(&one, 1);
    block(&mut one.connect(), "bob@example.com");
    let received = receiver.await_requests(2);
    let senders: Vec<_> = received.iter().map(|call| json(call)["sender"].as_str().unwrap().to_owned()).collect();
    assert_eq!(senders, ["alice@example.com", "bob@example.com"]);
    assert_eq!(database.rows("notices"), 2);
    // Everybody may be told again in the next period, and what is long past is forgotten with the next start.
    database.execute("UPDATE notices SET period = 1000");
    again(&two, 1);
    receiver.await_requests(3);
    one.term();
    one.start_again();
    block(&mut one.connect(), "carol@example.com");
    receiver.await_requests(4);
    wait::until(LIMIT, "old notices are forgotten", || {
        (database.number("SELECT COUNT(*) FROM notices WHERE period = 1000") == 0).then_some(())
    });
}

#[test]
fn several_daemons_tell_once_on_sqlite() {
    let setup = Setup::sqlite();
    setup.run("migrate", &[]);
    told_once_on(setup.database());
}

fn several_daemons_tell_once<S: Server>() {
    told_once_on(&S::shared().database());
}

crate::on_each_server! {
    several_daemons_tell_once
    blocks_are_told_once
}

#[test]
fn the_end_leaves_nobody_untold_for_the_sake_of_the_database_on_postgres() {
    let (receiver, database) = (Receiver::start(), Postgres::shared().database());
    let mut daemon = with_webhook(Setup::on(&database), &receiver, "/").start();
    let lock = || {
        let session = database.session();
        session.execute("BEGIN");
        session.execute("LOCK TABLE notices");
        session
    };
    // What took so long is followed by the longest rest, of two seconds. An end that is quicker has not waited for it; one that
    // is slower may have had a busy machine.
    let mut told = 0;
    let mut ends_quickly = || {
        let session = lock();
        block(&mut daemon.connect(), &format!("alice{told}@example.com"));
        thread::sleep(Duration::from_secs(1));
        session.execute("COMMIT");
        receiver.await_requests(told + 1);
        let bob = format!("bob{told}@example.com");
        block(&mut daemon.connect(), &bob);
        let began = Instant::now();
        assert!(daemon.term().success());
        let took = began.elapsed();
        assert_eq!(json(&receiver.await_requests(told + 2)[told + 1])["sender"], bob);
        told += 2;
        daemon.start_again();
        took < Duration::from_millis(1500)
    };
    assert!((0..5).any(|_| ends_quickly()), "each end waited for the rest");

    // Nor does it wait for a database that does not answer.
    let _session = lock();
    block(&mut daemon.connect(), "carol@example.com");
    block(&mut daemon.connect(), "dave@example.com");
    assert!(daemon.term().success());
    receiver.await_requests(told + 2);
    assert!(!daemon.log().contains("before the end"), "{}", daemon.log());
}

#[test]
fn a_database_in_memory_only_tells_too() {
    let receiver = Receiver::start();
    let daemon = with_webhook(Setup::sqlite().setting("DB_DATABASE", ":memory:"), &receiver, "/").start();
    block(&mut daemon.connect(), "alice@example.com");
    assert_eq!(json(&receiver.await_requests(1)[0])["quota_reset"], 2);
}

#[test]
fn steps_and_limits_are_told_as_what_they_are() {
    let receiver = Receiver::start();
    let mut daemon = with_webhook(Setup::sqlite(), &receiver, "/")
        .setting("QUOTA", "10")
        .setting("QUOTA_STEPS", "0.5x NOTIFY; 1x HOLD quota exceeded")
        .setting("LIMITS", "7 messages/1h DEFER slow down")
        .start();
    let mut client = daemon.connect();
    for _ in 0..9 {
        client.ask(&Request::data("alice@example.com", 1));
    }
    assert!(daemon.term().success());
    let received = receiver.received();
    let told: Vec<_> = received.iter().map(json).map(|body| (body["event"].clone(), body["limit"].clone())).collect();
    assert_eq!(told[0], ("quota_notice".into(), "0.5x".into()));
    assert_eq!(told[1], ("limit_exceeded".into(), "7 messages/1h".into()));
    assert_eq!(told.len(), 2);
}

fn blocks_are_told_once_on(database: &Database) {
    let receiver = Receiver::start();
    let mut daemons = [(), ()].map(|()| with_webhook(Setup::on(database), &receiver, "/").start());
    let run = |daemon: &Daemon, arguments: &[&str]| assert!(daemon.setup().run("sender", arguments).status.success());
    run(&daemons[0], &["block", "alice@example.com", "--reason", "compromised", "--for", "2h"]);
    assert_eq!(daemons[1].connect().ask(&Request::data("alice@example.com", 1)), "HOLD this account is blocked");
    receiver.await_requests(1);
    await_figure(&daemons[1], "blocks", "", 1);
    run(&daemons[1], &["unblock", "alice@example.com"]);
    receiver.await_requests(2);
    run(&daemons[0], &["block", "@example.com", "--for", "1s"]);
    receiver.await_requests(4);
    for daemon in &mut daemons {
        assert!(daemon.term().success());
    }
    let told: Vec<_> = receiver.received().iter().map(json).collect();
    let events: Vec<[&str; 3]> =
        told.iter().map(|body| ["event", "sender", "reason"].map(|key| body[key].as_str().unwrap())).collect();
    assert_eq!(
        events,
        [
            ["blocked", "alice@example.com", "compromised"],
            ["unblocked", "alice@example.com", "compromised"],
            ["blocked", "@example.com", "manual"],
            ["unblocked", "@example.com", "manual"],
        ]
    );
    assert!(told.iter().all(|body| body["until"].as_str().unwrap().ends_with('Z')), "{told:?}");
}

#[test]
fn blocks_are_told_once_on_sqlite() {
    blocks_are_told_once_on(Setup::sqlite().database());
}

fn blocks_are_told_once<S: Server>() {
    blocks_are_told_once_on(&S::shared().database());
}

#[test]
fn a_reload_switches_it_on_and_off() {
    let receiver = Receiver::start();
    let mut daemon = with_webhook(Setup::sqlite(), &receiver, "/").setting("WEBHOOK_ENABLED", "False").start();
    block(&mut daemon.connect(), "alice@example.com");
    daemon.change_setting("WEBHOOK_ENABLED", "True");
    daemon.hup();
    block(&mut daemon.connect(), "bob@example.com");
    assert_eq!(json(&receiver.await_requests(1)[0])["sender"], "bob@example.com");
    daemon.change_setting("WEBHOOK_ENABLED", "False");
    daemon.hup();
    block(&mut daemon.connect(), "carol@example.com");
    assert!(daemon.term().success());
    assert_eq!(receiver.received().len(), 1);
}

#[test]
fn what_waits_at_the_end_is_still_told() {
    let receiver = Receiver::start();
    let mut daemon = with_webhook(Setup::sqlite(), &receiver, "/").start();
    let mut client = daemon.connect();
    (0..20).for_each(|number| block(&mut client, &format!("sender{number}@example.com")));
    assert!(daemon.term().success());
    assert_eq!(receiver.received().len(), 20);
}

#[test]
fn no_log_level_shows_the_secret_or_the_token() {
    let receiver = Receiver::start();
    receiver.will_answer([Answer::Status(500)]);
    let mut daemon =
        with_webhook(Setup::sqlite(), &receiver, "/{sender}?t={token}").setting("LOG_LEVEL", "TRACE").start();
    block(&mut daemon.connect(), "alice@example.com");
    let received = receiver.await_requests(2);
    daemon.term();
    let token = received[0].target().split_once("?t=").unwrap().1;
    let log = daemon.log();
    assert!(token.len() == 64 && !log.contains(token), "{log}");
    assert!(!log.contains("c2VjcmV0IGtleSBvZiBtaW5l"), "{log}");
    assert!(log.contains("the receiver answered 500"), "{log}");
}

/// Certificates of an authority of its own for `localhost`, those of the authority before it, and a server that takes one call and prints its first line.
fn tls_server(folder: &Path, port: u16) -> Process {
    let openssl = |arguments: &str| {
        run(Command::new("openssl").current_dir(folder).args(arguments.split(' ')).stderr(Stdio::null()));
    };
    openssl("req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=test-ca");
    openssl("req -x509 -newkey rsa:2048 -nodes -keyout old-ca.key -out old-ca.pem -days 2 -subj /CN=old-test-ca");
    openssl("req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=localhost");
    fs::write(folder.join("server.ext"), "subjectAltName=DNS:localhost\n").unwrap();
    openssl(
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out server.pem -days 2 -extfile server.ext",
    );
    let script = "
import http.server, ssl, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers['Content-Length']))
        open('received', 'ab').write(body + b'\\n')
        self.send_response(200)
        self.end_headers()
server = http.server.ThreadingHTTPServer(('127.0.0.1', int(sys.argv[1])), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain('server.pem', 'server.key')
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
server.serve_forever()";
    let mut command = Command::new("python3");
    command.current_dir(folder).args(["-c", script, &port.to_string()]).stderr(Stdio::null());
    let process = Process::spawn(&mut command, nix::sys::signal::Signal::SIGKILL, folder);
    wait::until(LIMIT, "the TLS server listens", || TcpStream::connect(("127.0.0.1", port)).ok());
    process
}

#[test]
fn a_certificate_is_verified_and_an_authority_of_ones_own_can_be_added_and_renewed() {
    let folder = tempfile::tempdir().unwrap();
    let held = Port::free();
    let port = held.number();
    let _server = tls_server(folder.path(), port);
    let url = format!("https://localhost:{port}/hook");
    let unused = Receiver::start();
    let setup = with_webhook(Setup::sqlite(), &unused, "/").setting("WEBHOOK_URL", &url);
    let ca_file = setup.folder().join("ca.pem");
    fs::copy(folder.path().join("old-ca.pem"), &ca_file).unwrap();
    let mut daemon = setup.setting("WEBHOOK_CA_FILE", &ca_file.display().to_string()).start();
    block(&mut daemon.connect(), "alice@example.com");
    daemon.await_log("telling about alice@example.com failed: ");
    await_figure(&daemon, "notifications_total", r#"{channel="webhook",outcome="retried"}"#, 1);
    assert!(!folder.path().join("received").exists(), "nothing is sent to who cannot prove its name");
    assert!(daemon.log().to_lowercase().contains("certificate"), "{}", daemon.log());
    fs::copy(folder.path().join("ca.pem"), &ca_file).unwrap();
    daemon.hup();
    await_figure(&daemon, "notifications_total", r#"{channel="webhook",outcome="delivered"}"#, 1);
    assert!(fs::read_to_string(folder.path().join("received")).unwrap().contains("alice@example.com"));
}

/// One mail as an SMTP server got it.
#[derive(Debug, Clone, Default)]
struct Mail {
    from: String,
    to: Vec<String>,
    text: String,
}

/// An SMTP server that keeps what it gets. `greeting` is what it says first.
fn smtp_sink(greeting: &'static str) -> (SocketAddr, Arc<Mutex<Vec<Mail>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mails = Arc::new(Mutex::new(Vec::new()));
    let kept = mails.clone();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let kept = kept.clone();
            thread::spawn(move || smtp_session(&stream, greeting, &kept));
        }
    });
    (address, mails)
}

fn smtp_session(stream: &TcpStream, greeting: &str, kept: &Mutex<Vec<Mail>>) {
    let mut out = stream;
    let mut say = |text: &str| out.write_all(format!("{text}\r\n").as_bytes()).is_ok();
    let mut mail = Mail::default();
    say(greeting);
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    while let Some(line) = lines.next() {
        let upper = line.to_uppercase();
        if upper.starts_with("MAIL FROM:") {
            mail.from = line;
        } else if upper.starts_with("RCPT TO:") {
            mail.to.push(line);
        } else if upper == "DATA" {
            say("354 go on");
            let text: Vec<String> = lines.by_ref().take_while(|line| line != ".").collect();
            mail.text = text.join("\n");
            kept.lock().unwrap().push(std::mem::take(&mut mail));
        }
        if !say("250 ok") {
            return;
        }
    }
}

#[test]
fn the_admin_and_the_sender_get_a_mail_that_nothing_answers() {
    let (server, mails) = smtp_sink("220 sink");
    let daemon = Setup::sqlite()
        .with_metrics()
        .setting("QUOTA", "2")
        .setting("NOTIFY_MAIL_TO", "postmaster@example.com")
        .setting("NOTIFY_SENDER", "True")
        .setting("NOTIFY_MAIL_SERVER", &server.to_string())
        .start();
    let mut client = daemon.connect();
    block(&mut client, "alice@example.com");
    block(&mut client, "bob");
    let mails = wait::until(LIMIT, "three mails", || {
        let mails = mails.lock().unwrap();
        (mails.len() >= 3).then(|| mails.clone())
    });
    let to = |address: &str| -> Vec<&Mail> {
        mails.iter().filter(|mail| mail.to == [format!("RCPT TO:<{address}>")]).collect()
    };
    let (admin, alice) = (to("postmaster@example.com"), to("alice@example.com"));
    assert_eq!((admin.len(), alice.len(), mails.len()), (2, 1, 3), "bob's login is no address: {mails:?}");
    for mail in &mails {
        assert_eq!(mail.from, "MAIL FROM:<>");
        assert!(mail.text.contains("Auto-Submitted: auto-generated"), "{}", mail.text);
        assert!(mail.text.contains("From: policyd-rate-guard <postmaster@example.com>"), "{}", mail.text);
    }
    assert!(alice[0].text.contains("3 of 2"), "{}", alice[0].text);
    await_figure(&daemon, "notifications_total", r#"{channel="mail",outcome="delivered"}"#, 2);
    await_figure(&daemon, "notifications_total", r#"{channel="sender_mail",outcome="delivered"}"#, 1);
}

#[test]
fn a_stranger_who_writes_an_address_is_sent_no_mail() {
    let (server, mails) = smtp_sink("220 sink");
    let mut daemon = Setup::sqlite()
        .with_metrics()
        .setting("QUOTA", "2")
        .setting("LIMIT_BY", "sasl_username,sender")
        .setting("NOTIFY_MAIL_FROM", "postmaster@example.com")
        .setting("NOTIFY_SENDER", "True")
        .setting("NOTIFY_MAIL_SERVER", &server.to_string())
        .start();
    let mut client = daemon.connect();
    for _ in 0..5 {
        client.ask(&Request::data("", 1).sender("victim@example.org"));
    }
    block(&mut client, "alice@example.com");
    await_figure(&daemon, "notifications_total", r#"{channel="sender_mail",outcome="delivered"}"#, 1);
    daemon.term();
    let mails = mails.lock().unwrap();
    assert_eq!(mails.iter().map(|mail| mail.to.concat()).collect::<Vec<_>>(), ["RCPT TO:<alice@example.com>"]);
}

#[test]
fn a_mail_server_that_refuses_is_not_asked_again() {
    let (server, _mails) = smtp_sink("554 go away");
    let mut daemon = Setup::sqlite()
        .with_metrics()
        .setting("QUOTA", "2")
        .setting("NOTIFY_MAIL_TO", "postmaster@example.com")
        .setting("NOTIFY_MAIL_SERVER", &server.to_string())
        .start();
    block(&mut daemon.connect(), "alice@example.com");
    await_figure(&daemon, "notifications_total", r#"{channel="mail",outcome="failed"}"#, 1);
    daemon.await_log("mail: telling about alice@example.com failed and is given up: the mail server: ");
}

#[test]
fn an_error_is_reported_without_addresses() {
    let sentry = Receiver::start();
    let mut daemon = Setup::sqlite()
        .setting("DB_DATABASE", "/nonexistent/alice@example.com/file.db")
        .setting("SENTRY_DSN", &format!("http://public-key@{}/42", sentry.address()))
        .setting("SENTRY_ENVIRONMENT", "production")
        .start_without_tables();
    assert_eq!(daemon.connect().ask(&Request::data("bob@example.org", 1)), "DUNNO");
    let report = sentry.await_requests(1).remove(0);
    assert_eq!(report.target(), "/api/42/envelope/");
    assert!(report.header("x-sentry-auth").unwrap().contains("sentry_key=public-key"));
    let event = report.body.lines().find(|line| line.contains("\"message\"")).unwrap_or_else(|| panic!("{report:?}"));
    let event: serde_json::Value = serde_json::from_str(event).unwrap();
    assert!(event.get("level").is_none(), "an error is what an event is unless it says otherwise: {event}");
    assert_eq!(event["environment"], "production");
    assert_eq!(event["release"], concat!("policyd-rate-guard@", env!("CARGO_PKG_VERSION")));
    let message = event["message"].as_str().unwrap();
    assert!(message.contains("[address]") && message.contains("Mail goes on"), "{message}");
    assert!(daemon.term().success());
    for report in sentry.received() {
        assert!(!report.body.contains("example.com") && !report.body.contains("example.org"), "{}", report.body);
        assert!(event.get("server_name").is_none() && event.get("user").is_none(), "{event}");
    }
}

#[test]
fn an_error_in_the_settings_is_reported_without_them() {
    let sentry = Receiver::start();
    let dsn = format!("http://public-key@{}/42", sentry.address());
    let mut daemon = Setup::sqlite().setting("SENTRY_DSN", &dsn).start();
    daemon.change_setting("QUOTA_WINDOW", "db7.internal");
    daemon.hup();
    daemon.await_log("QUOTA_WINDOW=db7.internal: ");
    let report = sentry.await_requests(1).remove(0);
    assert!(report.body.contains("the settings were not changed"), "{report:?}");
    assert!(daemon.term().success());
    assert!(sentry.received().iter().all(|report| !report.body.contains("db7")), "{:?}", sentry.received());
}

#[test]
fn a_dead_sentry_costs_nothing() {
    let hung = Receiver::start();
    hung.will_answer((0..100).map(|_| Answer::Hang));
    let mut daemon = Setup::sqlite()
        .setting("DB_DATABASE", "/nonexistent/folder/file.db")
        .setting("SENTRY_DSN", &format!("http://public-key@{}/42", hung.address()))
        .start_without_tables();
    hung.await_requests(1);
    // It would hang for ever, and the client does not wait for that.
    assert_eq!(daemon.connect().ask(&Request::data("bob@example.org", 1)), "DUNNO");
    let began = Instant::now();
    assert!(daemon.term().success());
    assert!(began.elapsed() < Duration::from_secs(10), "the end took {:?}", began.elapsed());
}
