//! A policy client that asks as Postfix 3.7 does: its attributes in its order, one request at a time on a connection that
//! stays open. It can also do what Postfix never does: send several requests at once, or bytes that are no request.

use std::fmt::Display;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::path::Path;
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::stream::{Address, Stream};

/// How long a reply may take before the test fails. Far above DECISION_TIMEOUT, so that what fails is the daemon.
const REPLY_LIMIT: Duration = Duration::from_secs(15);

/// The answer to a message within the quota, as ACTION_ACCEPTED is by default.
pub const ACCEPTED: &str = "DUNNO";

/// The answer to a message over the quota, as ACTION_TEXT_BLOCKED is by default.
pub const BLOCKED: &str = "DEFER_IF_PERMIT Rate limit reached, retry later.";

/// One policy request: attributes in the order in which they are sent.
#[derive(Debug, Clone)]
pub struct Request {
    attributes: Vec<(String, String)>,
}

/// A setter for each attribute, and the order of them all.
macro_rules! attributes {
    ($($name:ident = $default:literal)*) => {
        impl Request {
            /// What Postfix 3.7 sends in the DATA stage of a submission session.
            fn postfix_3_7() -> Request {
                Request { attributes: vec![$((stringify!($name).to_owned(), $default.to_owned())),*] }
            }

            $(pub fn $name(self, value: impl Display) -> Request {
                self.with(stringify!($name), value)
            })*
        }
    };
}

attributes! {
    request = "smtpd_access_policy"
    protocol_state = "DATA"
    protocol_name = "ESMTP"
    client_address = "192.0.2.25"
    client_name = "client.example.net"
    client_port = "50436"
    reverse_client_name = "client.example.net"
    server_address = "198.51.100.1"
    server_port = "587"
    helo_name = "client.example.net"
    sender = ""
    recipient = ""
    recipient_count = "0"
    queue_id = ""
    instance = ""
    size = "0"
    etrn_domain = ""
    stress = ""
    sasl_method = "PLAIN"
    sasl_username = ""
    sasl_sender = ""
    ccert_subject = ""
    ccert_issuer = ""
    ccert_fingerprint = ""
    ccert_pubkey_fingerprint = ""
    encryption_protocol = "TLSv1.3"
    encryption_cipher = "TLS_AES_256_GCM_SHA384"
    encryption_keysize = "256"
    policy_context = ""
}

impl Request {
    /// A new message of `login` to `recipients` recipients, asked about when the client sends DATA.
    pub fn data(login: &str, recipients: u32) -> Request {
        static MESSAGES: AtomicU64 = AtomicU64::new(1);
        let message = MESSAGES.fetch_add(1, Ordering::Relaxed);
        // Postfix names the recipient only when there is one.
        let recipient = if recipients == 1 { "bob@example.org" } else { "" };
        Request::postfix_3_7()
            .sender(login)
            .recipient(recipient)
            .recipient_count(recipients)
            .queue_id(format_args!("4bX{message:07}zGH"))
            .instance(format_args!("{:x}.6560a1b2.{message:x}.0", process::id()))
            .sasl_username(login)
    }

    /// A new message asked about after its content, of `size` bytes, has come in.
    pub fn end_of_message(login: &str, recipients: u32, size: u64) -> Request {
        Request::data(login, recipients).protocol_state("END-OF-MESSAGE").size(size)
    }

    /// A new message asked about at its first recipient, when it has no queue id yet.
    pub fn rcpt(login: &str, recipient: &str) -> Request {
        Request::data(login, 0).protocol_state("RCPT").recipient(recipient).queue_id("")
    }

    /// Sets an attribute, in its place if it has one, else at the end.
    pub fn with(mut self, name: &str, value: impl Display) -> Request {
        let value = value.to_string();
        match self.attributes.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value,
            None => self.attributes.push((name.to_owned(), value)),
        }
        self
    }

    /// Leaves an attribute out, as older versions of Postfix do.
    pub fn without(mut self, name: &str) -> Request {
        self.attributes.retain(|(known, _)| known != name);
        self
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let mut text = String::new();
        for (name, value) in &self.attributes {
            text.push_str(&format!("{name}={value}\n"));
        }
        text.push('\n');
        text.into_bytes()
    }
}

/// One connection to the daemon.
#[derive(Debug)]
pub struct Client {
    stream: Stream,
    /// Read, but not yet taken by [`Client::reply`].
    received: Vec<u8>,
}

impl Client {
    pub fn tcp(address: SocketAddr) -> Client {
        Client::connect(&Address::Tcp(address))
    }

    /// Over TCP, from an address of this host.
    pub fn tcp_from(from: IpAddr, address: SocketAddr) -> Client {
        let stream =
            Stream::connect_from(from, address).unwrap_or_else(|error| panic!("from {from} to {address}: {error}"));
        stream.set_timeouts(REPLY_LIMIT).expect("time-outs");
        Client { stream, received: Vec::new() }
    }

    pub fn unix(path: &Path) -> Client {
        Client::connect(&Address::Unix(path.to_owned()))
    }

    pub fn connect(address: &Address) -> Client {
        Client::try_connect(address).unwrap_or_else(|error| panic!("connecting to {address:?}: {error}"))
    }

    pub fn try_connect(address: &Address) -> io::Result<Client> {
        let stream = Stream::connect(address)?;
        stream.set_timeouts(REPLY_LIMIT)?;
        Ok(Client { stream, received: Vec::new() })
    }

    /// How long to wait for a reply, and for room to send.
    pub fn set_limit(&mut self, limit: Duration) {
        self.stream.set_timeouts(limit).expect("a time-out on an open socket");
    }

    /// Sends one request and gives the action, without `action=`.
    pub fn ask(&mut self, request: &Request) -> String {
        self.try_ask(request).unwrap_or_else(|error| panic!("no reply: {error}"))
    }

    /// As [`Client::ask`], for a daemon that may have gone.
    pub fn try_ask(&mut self, request: &Request) -> io::Result<String> {
        self.try_send_raw(&request.to_bytes())?;
        self.try_reply()
    }

    pub fn send(&mut self, request: &Request) {
        self.send_raw(&request.to_bytes());
    }

    /// Sends all requests before any reply is read.
    pub fn pipeline(&mut self, requests: &[Request]) -> Vec<String> {
        let bytes: Vec<u8> = requests.iter().flat_map(Request::to_bytes).collect();
        self.send_raw(&bytes);
        requests.iter().map(|_| self.reply()).collect()
    }

    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.try_send_raw(bytes).unwrap_or_else(|error| panic!("sending {} bytes: {error}", bytes.len()));
    }

    pub fn try_send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// The next reply's action. Anything but one `action=` line and an empty line fails the test.
    pub fn reply(&mut self) -> String {
        self.try_reply().unwrap_or_else(|error| panic!("no reply: {error}"))
    }

    pub fn try_reply(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.received.windows(2).position(|pair| pair == b"\n\n") {
                let rest = self.received.split_off(end + 2);
                let reply = std::mem::replace(&mut self.received, rest);
                let reply = String::from_utf8(reply).expect("a reply in UTF-8");
                let line = reply.trim_end_matches('\n');
                let action = line.strip_prefix("action=").filter(|action| !action.contains('\n'));
                return Ok(action.unwrap_or_else(|| panic!("not a policy reply: {reply:?}")).to_owned());
            }
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => self.received.extend_from_slice(&buffer[..count]),
            }
        }
    }

    /// True when the daemon closes the connection within `limit` without having sent anything more.
    pub fn is_closed_within(&mut self, limit: Duration) -> bool {
        self.set_limit(limit);
        let closed = match self.stream.read(&mut [0; 1]) {
            Ok(count) => count == 0 && self.received.is_empty(),
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        };
        self.set_limit(REPLY_LIMIT);
        closed
    }

    /// True when for the whole of `time` the connection stays open and nothing comes.
    pub fn is_silent_for(&mut self, time: Duration) -> bool {
        self.set_limit(time);
        let silent = match self.stream.read(&mut [0; 1]) {
            Ok(_) => false,
            Err(error) => matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
        };
        self.set_limit(REPLY_LIMIT);
        silent && self.received.is_empty()
    }

    /// Says that nothing more will be sent; replies can still be read.
    pub fn finish_sending(&mut self) {
        self.stream.shutdown(Shutdown::Write).expect("closing one direction of an open socket");
    }
}
