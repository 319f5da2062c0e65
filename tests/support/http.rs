//! HTTP/1.1 as far as tests need it: asking the daemon's status page, and receiving what the daemon posts.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::wait;

/// How long an answer may take on a loaded machine.
const LIMIT: Duration = Duration::from_secs(20);

/// A request or a response.
#[derive(Debug, Clone, Default)]
pub struct Message {
    /// The request line, or the status line.
    pub start: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Message {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// A response's status.
    pub fn status(&self) -> u16 {
        self.start.split(' ').nth(1).expect("a status line").parse().expect("a status")
    }

    /// A request's target.
    pub fn target(&self) -> &str {
        self.start.split(' ').nth(1).expect("a request line")
    }

    fn read(stream: &TcpStream, has_body: bool) -> io::Result<Message> {
        let mut reader = BufReader::new(stream);
        let mut message = Message::default();
        let mut line = String::new();
        while reader.read_line(&mut line)? > 2 {
            let text = line.trim_end();
            match text.split_once(": ") {
                Some((name, value)) if !message.start.is_empty() => {
                    message.headers.push((name.to_ascii_lowercase(), value.to_owned()));
                }
                _ => message.start = text.to_owned(),
            }
            line.clear();
        }
        if message.start.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if has_body {
            let mut body = match message.header("content-length") {
                Some(length) => vec![0; length.parse().expect("a length")],
                // Sentry's transport sends its envelope in chunks.
                None if message.header("transfer-encoding").is_some() => return read_chunks(message, reader),
                None => Vec::new(),
            };
            reader.read_exact(&mut body)?;
            message.body = String::from_utf8(body).expect("a body in UTF-8");
        }
        Ok(message)
    }
}

fn read_chunks(mut message: Message, mut reader: impl BufRead) -> io::Result<Message> {
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let length = usize::from_str_radix(line.trim(), 16).expect("a chunk's length");
        let mut chunk = vec![0; length + 2];
        reader.read_exact(&mut chunk)?;
        if length == 0 {
            return Ok(message);
        }
        message.body.push_str(std::str::from_utf8(&chunk[..length]).expect("UTF-8"));
    }
}

/// Sends one request and reads the response.
pub fn ask(address: SocketAddr, method: &str, path: &str, headers: &str) -> Message {
    ask_as("test", address, method, path, headers)
}

/// Sends one request under a name of the server's.
pub fn ask_as(host: &str, address: SocketAddr, method: &str, path: &str, headers: &str) -> Message {
    try_ask_as(host, address, method, path, headers).expect("a response")
}

/// As [`ask_as`], where the server may close the connection instead.
pub fn try_ask_as(host: &str, address: SocketAddr, method: &str, path: &str, headers: &str) -> io::Result<Message> {
    let mut stream = TcpStream::connect_timeout(&address, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    let request = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes())?;
    Message::read(&stream, method != "HEAD")
}

pub fn get(address: SocketAddr, path: &str) -> Message {
    ask(address, "GET", path, "")
}

/// A server that keeps what it is sent and answers as told, 200 when nothing was told.
#[derive(Debug)]
pub struct Receiver {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    received: Mutex<Vec<Message>>,
    answers: Mutex<VecDeque<Answer>>,
}

/// What the receiver does with a request.
#[derive(Debug, Clone)]
pub enum Answer {
    Status(u16),
    /// A redirection to there.
    Moved(String),
    /// Never answers, and keeps the connection.
    Hang,
}

impl Receiver {
    pub fn start() -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared::default());
        let receiver = Receiver { address, shared: shared.clone() };
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = shared.clone();
                thread::spawn(move || serve(stream, &shared));
            }
        });
        receiver
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The answers to the next requests, in their order.
    pub fn will_answer(&self, answers: impl IntoIterator<Item = Answer>) {
        self.shared.answers.lock().unwrap().extend(answers);
    }

    /// All that came, in its order.
    pub fn received(&self) -> Vec<Message> {
        self.shared.received.lock().unwrap().clone()
    }

    /// Waits until so many requests have come, and gives them all.
    pub fn await_requests(&self, count: usize) -> Vec<Message> {
        wait::until(LIMIT, "requests to the receiver", || {
            let received = self.received();
            (received.len() >= count).then_some(received)
        })
    }
}

fn serve(mut stream: TcpStream, shared: &Shared) {
    while let Ok(message) = Message::read(&stream, true) {
        shared.received.lock().unwrap().push(message);
        let (status, more) = match shared.answers.lock().unwrap().pop_front().unwrap_or(Answer::Status(200)) {
            Answer::Status(status) => (status, String::new()),
            Answer::Moved(to) => (302, format!("Location: {to}\r\n")),
            Answer::Hang => {
                // Until the other side has enough.
                let _ = stream.read(&mut [0]);
                return;
            }
        };
        let response = format!("HTTP/1.1 {status} Told\r\nContent-Length: 0\r\n{more}\r\n");
        if stream.write_all(response.as_bytes()).is_err() {
            return;
        }
    }
}
