//! `query`: asks the running daemon as Postfix would.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;
use socket2::{Domain, SockAddr, Socket, Type};

use super::database;
use super::output::{print, print_json};
use crate::cli;
use crate::clock;
use crate::config::{ListenAddress, Sources};
use crate::exit::{Exit, Failed};
use crate::protocol::reply::MAX_REPLY_LINE;
use crate::protocol::request::DRY_RUN;

/// Where the packaged systemd unit listens.
pub const PACKAGED_SOCKET: &str = "/var/spool/postfix/rateguard/policyd";

pub fn run(sources: &Sources, options: &cli::Query) -> Result<Exit, Failed> {
    let address = address(sources, options)?;
    let action = ask(&address, &request(options), options.timeout).map_err(|error| {
        let advice = match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                "; is the daemon running? See `systemctl status policyd-rate-guard`, or name its socket with --socket"
            }
            io::ErrorKind::PermissionDenied => "; run this as root or as user postfix",
            _ => "",
        };
        Failed::new(Exit::Unavailable, format_args!("cannot ask the daemon on {}: {error}{advice}", address))
    })?;
    let counted = !options.dry_run;
    if options.output.json {
        print_json(&json!({ "action": action, "counted": counted }))?;
    } else {
        print(&format!("action={action}\n"))?;
        eprintln!(
            "{}",
            if counted { "This request was counted; --dry-run only looks." } else { "Nothing was counted." }
        );
    }
    Ok(Exit::Ok)
}

/// Returns the daemon's socket: --socket, else that of the settings, else the packaged unit's.
fn address(sources: &Sources, options: &cli::Query) -> Result<ListenAddress, Failed> {
    if let Some(written) = &options.socket {
        return named(written);
    }
    let sockets = database::load(sources)?.sockets;
    let packaged = PathBuf::from(PACKAGED_SOCKET);
    match sockets.listen.first() {
        Some(_) if !sockets.explicit && packaged.exists() => Ok(ListenAddress::Unix(packaged)),
        Some(address) => Ok(address.clone()),
        None => Err(Failed::new(Exit::Config, "SOCKET names no address; name one with --socket")),
    }
}

/// Reads an address as `--socket` and main.cf write it; a host name means its first address.
pub fn named(written: &str) -> Result<ListenAddress, Failed> {
    // A plain host:port is TCP.
    let read = ListenAddress::parse(written).or_else(|_| ListenAddress::parse(&format!("inet:{written}")));
    read.ok().and_then(|addresses| addresses.into_iter().next()).ok_or_else(|| {
        Failed::new(
            Exit::Usage,
            format_args!("--socket {written}: write 127.0.0.1,10033, inet:host:port or unix:/path"),
        )
    })
}

/// A request that only checks whether there is an answer.
pub fn test_request() -> Vec<u8> {
    // With a login, so that the limiter answers it.
    format!("request=smtpd_access_policy\nprotocol_state=DATA\nsasl_username=doctor\n{DRY_RUN}=yes\n\n").into_bytes()
}

/// Returns the request's bytes. Attributes of the command line replace the others.
fn request(options: &cli::Query) -> Vec<u8> {
    let now = clock::since_1970();
    // A new one for each request, or the daemon would take it for a repeated request.
    let instance = format!("query.{:x}.{:x}.{:x}", std::process::id(), now.as_secs(), now.subsec_nanos());
    let count = options.recipients.to_string();
    let ours = [
        ("request", "smtpd_access_policy"),
        ("protocol_state", "DATA"),
        ("protocol_name", "ESMTP"),
        ("client_address", &options.client_address),
        ("client_name", "unknown"),
        ("helo_name", "query"),
        ("sender", &options.sender),
        ("recipient_count", &count),
        ("instance", &instance),
        ("sasl_username", &options.sasl_username),
    ];
    let mut bytes = Vec::new();
    let mut push = |name: &str, value: &str| {
        let line = format!("{name}={value}").replace(['\n', '\0'], " ");
        bytes.extend_from_slice(line.as_bytes());
        bytes.push(b'\n');
    };
    for (name, value) in ours {
        if !options.attribute.iter().any(|(named, _)| named == name) {
            push(name, value);
        }
    }
    for (name, value) in &options.attribute {
        push(name, value);
    }
    if options.dry_run {
        push(DRY_RUN, "yes");
    }
    bytes.push(b'\n');
    bytes
}

/// Sends a request and returns the action of its reply. `timeout` is for connecting, and again for the answer.
pub fn ask(address: &ListenAddress, request: &[u8], timeout: Duration) -> io::Result<String> {
    let stream: Socket = match address {
        ListenAddress::Tcp(address) => TcpStream::connect_timeout(address, timeout)?.into(),
        ListenAddress::Unix(path) => {
            let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
            // Linux lets a connection wait for a full backlog as long as for a write.
            socket.set_write_timeout(Some(timeout))?;
            socket.connect(&SockAddr::unix(path)?).map_err(|error| match error.kind() {
                io::ErrorKind::WouldBlock => {
                    io::Error::new(io::ErrorKind::TimedOut, "it did not accept the connection in time")
                }
                _ => error,
            })?;
            socket
        }
    };
    stream.set_read_timeout(Some(timeout))?;
    converse(stream, request)
}

fn converse(mut stream: impl Read + Write, request: &[u8]) -> io::Result<String> {
    stream.write_all(request)?;
    let mut reply = Vec::new();
    let mut chunk = [0; 1024];
    while !reply.ends_with(b"\n\n") && reply.len() <= MAX_REPLY_LINE {
        match stream.read(&mut chunk) {
            Ok(0) => {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it closed the connection without an answer"));
            }
            Ok(read) => reply.extend_from_slice(chunk.get(..read).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time"));
            }
            Err(error) => return Err(error),
        }
    }
    let text = String::from_utf8_lossy(&reply);
    match text.trim_end().strip_prefix("action=") {
        Some(action) => Ok(action.to_owned()),
        None => Err(io::Error::new(io::ErrorKind::InvalidData, format!("its answer is not a policy reply: {text:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_that_accepts_nobody_is_waited_for_no_longer_than_asked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policyd");
        let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        listener.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        listener.listen(0).unwrap();
        let mut waiting = Vec::new();
        loop {
            let one = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
            one.set_nonblocking(true).unwrap();
            if one.connect(&SockAddr::unix(&path).unwrap()).is_err() {
                break;
            }
            waiting.push(one);
        }
        let error = ask(&ListenAddress::Unix(path), &test_request(), Duration::from_millis(20)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
    }
}
