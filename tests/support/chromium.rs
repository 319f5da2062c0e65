//! A real browser, Debian's Chromium without a screen, driven by its DevTools protocol over a socket: no driver, no port.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::process::{Process, program};
use super::scratch::Scratch;

/// How long the browser may take for anything on a loaded machine.
const LIMIT: Duration = Duration::from_secs(60);

/// The font of the pictures; without a desktop there is none that is made for screens.
const FONTS: &str = r#"<?xml version="1.0"?><fontconfig>
<alias binding="strong"><family>system-ui</family><prefer><family>Inter</family></prefer></alias>
<alias binding="strong"><family>sans-serif</family><prefer><family>Inter</family></prefer></alias>
</fontconfig>"#;

/// A browser with one page.
pub struct Chromium {
    // Before its folder, so that it ends first.
    _process: Process,
    socket: UnixStream,
    read: Vec<u8>,
    events: VecDeque<Value>,
    calls: u64,
    session: Option<String>,
    _scratch: Scratch,
    _turn: MutexGuard<'static, ()>,
}

/// One browser at a time: it takes a machine for itself.
static TURN: Mutex<()> = Mutex::new(());

impl Chromium {
    pub fn start() -> Chromium {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let scratch = Scratch::unprivileged();
        let (socket, theirs) = UnixStream::pair().expect("a pair of sockets");
        socket.set_read_timeout(Some(LIMIT)).expect("a time-out");
        let fonts = scratch.join(".config/fontconfig");
        fs::create_dir_all(&fonts).expect("a folder");
        fs::write(fonts.join("fonts.conf"), FONTS).expect("the font");
        let log = scratch.join("chromium.log");
        File::create(&log).expect("a log file");
        scratch.hand_over();
        let chromium = program("chromium", &[], None);
        // The protocol is spoken on descriptors 3 and 4.
        let mut command = program("sh", &[], scratch.owner());
        command.arg("-c").arg("log=$1; shift; exec \"$@\" 3<&1 4>&2 >/dev/null 2>\"$log\"").arg("sh").arg(&log);
        command.arg(chromium.get_program());
        command.args([
            "--headless",
            "--remote-debugging-pipe",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-extensions",
            "--hide-scrollbars",
            "--force-color-profile=srgb",
            "--lang=en-GB",
            "--window-size=1280,800",
        ]);
        command.arg(format!("--user-data-dir={}", scratch.join("profile").display()));
        command.env("HOME", scratch.path()).env("LANGUAGE", "en_GB").env("TZ", "UTC").current_dir(scratch.path());
        let end = |socket: &UnixStream| OwnedFd::from(socket.try_clone().expect("the socket"));
        command.stdout(end(&theirs)).stderr(end(&theirs));
        let process = Process::spawn(&mut command, Signal::SIGTERM, scratch.path());
        // Else nobody would notice that the browser has gone.
        drop((command, theirs));
        let mut chromium = Chromium {
            _process: process,
            socket,
            read: Vec::new(),
            events: VecDeque::new(),
            calls: 0,
            session: None,
            _scratch: scratch,
            _turn: turn,
        };
        let target = chromium.call("Target.createTarget", json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = chromium.call("Target.attachToTarget", attach);
        chromium.session = Some(attached["sessionId"].as_str().expect("a session").to_owned());
        for domain in ["Page", "Runtime", "Log", "Network"] {
            chromium.call(&format!("{domain}.enable"), json!({}));
        }
        chromium
    }

    /// One command of the protocol, and its result.
    pub fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.calls += 1;
        let id = self.calls;
        let mut message = json!({ "id": id, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        let mut bytes = serde_json::to_vec(&message).expect("JSON");
        bytes.push(0);
        self.socket.write_all(&bytes).expect("speaking to the browser");
        loop {
            let message = self.message();
            if message["id"] == json!(id) {
                assert!(message.get("error").is_none(), "{method}: {}", message["error"]);
                return message["result"].clone();
            }
            self.events.push_back(message);
        }
    }

    fn message(&mut self) -> Value {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            if let Some(end) = self.read.iter().position(|&byte| byte == 0) {
                let message: Vec<u8> = self.read.drain(..=end).collect();
                return serde_json::from_slice(&message[..end]).expect("JSON from the browser");
            }
            match self.socket.read(&mut buffer) {
                Ok(0) => panic!("the browser has gone"),
                Ok(count) => self.read.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("the browser says nothing: {error}"),
            }
        }
    }

    /// What the page did since the last time that somebody asked, of these kinds.
    pub fn events(&mut self, methods: &[&str]) -> Vec<Value> {
        // What the browser has told by now.
        self.evaluate("0");
        let (wanted, rest): (Vec<Value>, Vec<Value>) =
            self.events.drain(..).partition(|event| methods.iter().any(|method| event["method"] == json!(method)));
        self.events = rest.into();
        wanted.into_iter().map(|event| event["params"].clone()).collect()
    }

    /// All that a developer would see in red or yellow, and dialogs.
    pub fn complaints(&mut self) -> Vec<String> {
        let events = self.events(&[
            "Runtime.consoleAPICalled",
            "Runtime.exceptionThrown",
            "Log.entryAdded",
            "Page.javascriptDialogOpening",
        ]);
        events.iter().map(Value::to_string).collect()
    }

    pub fn navigate(&mut self, url: &str) {
        let navigated = self.call("Page.navigate", json!({ "url": url }));
        assert!(navigated.get("errorText").is_none(), "{url}: {navigated}");
        self.await_true("document.readyState === 'complete'");
    }

    /// The value of an expression on the page; promises are waited for.
    pub fn evaluate(&mut self, expression: &str) -> Value {
        let parameters = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let result = self.call("Runtime.evaluate", parameters);
        assert!(result.get("exceptionDetails").is_none(), "{expression}: {}", result["exceptionDetails"]);
        result["result"]["value"].clone()
    }

    pub fn text(&mut self, expression: &str) -> String {
        let value = self.evaluate(expression);
        value.as_str().unwrap_or_else(|| panic!("{expression} is {value}")).to_owned()
    }

    /// Waits until an expression is true.
    pub fn await_true(&mut self, expression: &str) {
        let started = Instant::now();
        while self.evaluate(expression) != json!(true) {
            let elapsed = started.elapsed();
            assert!(
                elapsed < LIMIT,
                "never true: {expression}; the page says:\n{}",
                self.text("document.body.innerText")
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A screen of this size; `dark` is what the user prefers.
    pub fn screen(&mut self, width: u32, height: u32, scale: f64, dark: bool) {
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": scale, "mobile": width < 600 });
        self.call("Emulation.setDeviceMetricsOverride", metrics);
        let scheme = if dark { "dark" } else { "light" };
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.call("Emulation.setEmulatedMedia", media);
    }

    /// What is on the screen, as PNG.
    pub fn screenshot(&mut self) -> Vec<u8> {
        let shot = self.call("Page.captureScreenshot", json!({ "format": "png" }));
        let data = shot["data"].as_str().expect("a picture");
        base64::engine::general_purpose::STANDARD.decode(data).expect("base64")
    }

    /// Presses a key such as `ArrowDown` or `Escape`.
    pub fn press(&mut self, key: &str) {
        let code = match key {
            "Escape" => 27,
            "Enter" => 13,
            "End" => 35,
            "Home" => 36,
            "ArrowUp" => 38,
            "ArrowDown" => 40,
            _ => 0,
        };
        for kind in ["rawKeyDown", "keyUp"] {
            let event = json!({ "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code });
            self.call("Input.dispatchKeyEvent", event);
        }
    }
}
