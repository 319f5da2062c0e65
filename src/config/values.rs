//! From a setting's text to its type, one function per kind of value. An error ends a sentence that begins with the
//! setting's name: "must be …".

use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::address::{AddressProblem, ListenAddress};
use super::endpoint::Endpoint;
use super::secret::Secret;
use super::setting::{Kind, Setting};
use super::typed::{Driver, Held, Tls};
use crate::account::{LimitBy, network};
use crate::policy::duration;
use crate::policy::quota::{self, Window};
use crate::protocol::reply::Action;

/// A value in its type, or what it must be.
pub type Parsed<T> = Result<T, String>;

/// The longest secret, in bytes.
pub const MAX_SECRET: usize = 1024;

/// The log socket that SYSLOG=True means.
const DEV_LOG: &str = "/dev/log";

fn must_be<T>(setting: &Setting) -> Parsed<T> {
    Err(format!("must be {}", setting.kind.allowed()))
}

pub fn text(written: &str, setting: &Setting) -> Parsed<String> {
    match setting.kind {
        Kind::Text(longest) if written.len() <= longest && !written.contains(char::is_control) => {
            Ok(written.to_owned())
        }
        _ => must_be(setting),
    }
}

/// Any text: of a setting without a meaning.
pub fn unread(_: &str, _: &Setting) -> Parsed<()> {
    Ok(())
}

/// DB_HOST: one or more, separated by commas.
pub fn hosts(written: &str, setting: &Setting) -> Parsed<Vec<String>> {
    let written = text(written, setting)?;
    let hosts: Vec<String> = listed(&written).map(|one| host(one, setting)).collect::<Parsed<_>>()?;
    if hosts.is_empty() { Err("must name at least one server".to_owned()) } else { Ok(hosts) }
}

/// What stands between commas.
fn listed(written: &str) -> impl Iterator<Item = &str> {
    written.split(',').map(str::trim).filter(|one| !one.is_empty())
}

/// A name, an address, or the folder of a socket.
fn host(written: &str, setting: &Setting) -> Parsed<String> {
    let host = text(written, setting)?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(&host);
    let (address, _interface) = bare.split_once('%').unwrap_or((bare, ""));
    if address.parse::<Ipv6Addr>().is_ok() {
        return Ok(bare.to_owned());
    }
    match host.rsplit_once(':').filter(|_| !host.starts_with('/')) {
        None => Ok(host),
        Some((host, port)) if digits(port).is_some() && !host.contains('/') => {
            let host = host.trim_matches(['[', ']']);
            Err(format!("has a port in it; write DB_HOST={host} and DB_PORT={port}"))
        }
        Some(_) => Err("must be a server's name or address".to_owned()),
    }
}

pub fn secret(written: &str, setting: &Setting) -> Parsed<Secret> {
    if written.len() > MAX_SECRET || written.contains('\0') {
        return must_be(setting);
    }
    Ok(Secret::new(written.to_owned()))
}

pub fn path(written: &str, setting: &Setting) -> Parsed<PathBuf> {
    let path = Path::new(written);
    let absolute = path.is_absolute() || setting.kind != Kind::AbsolutePath;
    if written.contains(char::is_control) || written.len() > 4096 || !absolute {
        return must_be(setting);
    }
    Ok(path.to_owned())
}

/// DB_SOCKET: one or more, separated by commas.
pub fn paths(written: &str, setting: &Setting) -> Parsed<Vec<PathBuf>> {
    listed(written).map(|one| path(one, setting)).collect()
}

/// As Python's `strtobool`, which PolicydRateGuard uses.
pub fn flag(written: &str, setting: &Setting) -> Parsed<bool> {
    match written.to_ascii_lowercase().as_str() {
        "y" | "yes" | "t" | "true" | "on" | "1" => Ok(true),
        "n" | "no" | "f" | "false" | "off" | "0" => Ok(false),
        _ => must_be(setting),
    }
}

pub fn number<N: TryFrom<u64>>(written: &str, setting: &Setting) -> Parsed<N> {
    let Kind::Number(least, most) = setting.kind else { return must_be(setting) };
    let number = digits(written).filter(|number| (least..=most).contains(number));
    number.and_then(|number| N::try_from(number).ok()).map_or_else(|| must_be(setting), Ok)
}

/// A number of bytes such as `64M`, by units of 1024.
pub fn size(written: &str, setting: &Setting) -> Parsed<u64> {
    let Kind::Size(least, most) = setting.kind else { return must_be(setting) };
    let units = [("k", 10), ("K", 10), ("M", 20), ("G", 30)];
    let unit = units.into_iter().find_map(|(unit, bits)| Some((written.strip_suffix(unit)?, bits)));
    let (number, bits) = unit.unwrap_or((written, 0));
    let size = digits(number).and_then(|number| number.checked_mul(1 << bits));
    size.filter(|&size| size == 0 || (least..=most).contains(&size)).map_or_else(|| must_be(setting), Ok)
}

/// Digits only: no sign, no blanks.
fn digits(written: &str) -> Option<u64> {
    written.bytes().all(|byte| byte.is_ascii_digit()).then(|| written.parse().ok())?
}

pub fn duration(written: &str, setting: &Setting) -> Parsed<Duration> {
    let Kind::Duration(least, most) = setting.kind else { return must_be(setting) };
    let length = duration::parse(written).filter(|length| (least..=most).contains(length));
    length.map_or_else(|| must_be(setting), Ok)
}

pub fn driver(written: &str, setting: &Setting) -> Parsed<Driver> {
    match written.to_ascii_lowercase().as_str() {
        "sqlite" | "sqlite3" => Ok(Driver::Sqlite),
        "mysql" | "pymysql" | "mariadb" => Ok(Driver::Mysql),
        "postgres" | "postgresql" => Ok(Driver::Postgres),
        _ => must_be(setting),
    }
}

pub fn tls(written: &str, setting: &Setting) -> Parsed<Tls> {
    match written.to_ascii_lowercase().as_str() {
        "off" => Ok(Tls::Off),
        "prefer" => Ok(Tls::Prefer),
        "require" => Ok(Tls::Require),
        "verify" => Ok(Tls::Verify),
        _ => must_be(setting),
    }
}

/// SOCKET: one or more addresses. A host name stands for all its addresses.
pub fn listen(written: &str, setting: &Setting) -> Parsed<Vec<ListenAddress>> {
    // `127.0.0.1, 10033` is one address to PolicydRateGuard.
    let written = written.split(',').map(str::trim).collect::<Vec<_>>().join(",");
    let mut addresses = Vec::new();
    for entry in written.split_whitespace() {
        let read = ListenAddress::parse(entry).or_else(|problem| match problem {
            AddressProblem::Form => must_be(setting),
            other => Err(other.to_string()),
        });
        for address in read? {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
    }
    if addresses.is_empty() { must_be(setting) } else { Ok(addresses) }
}

/// METRICS_LISTEN, NOTIFY_MAIL_SERVER: `host:port`; `host,port` is understood too.
pub fn endpoint(written: &str, setting: &Setting) -> Parsed<Endpoint> {
    let (host, port) = written.rsplit_once([':', ',']).map_or_else(|| must_be(setting), Ok)?;
    Endpoint::new(host, port).map_or_else(|| must_be(setting), Ok)
}

pub fn mode(written: &str, setting: &Setting) -> Parsed<u32> {
    let octal = written.strip_prefix("0o").unwrap_or(written);
    let mode = digits(octal).and_then(|_| u32::from_str_radix(octal, 8).ok()).filter(|mode| *mode <= 0o777);
    mode.map_or_else(|| must_be(setting), Ok)
}

pub fn account(written: &str, setting: &Setting) -> Parsed<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '$' | '@');
    if written.len() > 255 || written.starts_with('-') || !written.chars().all(plain) || written.is_empty() {
        return must_be(setting);
    }
    Ok(written.to_owned())
}

pub fn attributes(written: &str, setting: &Setting) -> Parsed<Vec<LimitBy>> {
    let mut attributes = Vec::new();
    for name in words(written) {
        let known = [LimitBy::SaslUsername, LimitBy::Sender, LimitBy::ClientAddress];
        let Some(attribute) = known.into_iter().find(|known| known.name().eq_ignore_ascii_case(name)) else {
            return must_be(setting);
        };
        if attributes.contains(&attribute) {
            return must_be(setting);
        }
        attributes.push(attribute);
    }
    if attributes.is_empty() { must_be(setting) } else { Ok(attributes) }
}

/// What stands between blanks and commas.
fn words(written: &str) -> impl Iterator<Item = &str> {
    written.split(|c: char| c.is_whitespace() || c == ',').filter(|word| !word.is_empty())
}

pub fn held(written: &str, setting: &Setting) -> Parsed<Held> {
    match written.to_lowercase().as_str() {
        "keep" => Ok(Held::Keep),
        "release" => Ok(Held::Release),
        _ => must_be(setting),
    }
}

pub fn domain(written: &str, setting: &Setting) -> Parsed<String> {
    let domain = written.strip_prefix('@').unwrap_or(written).to_lowercase();
    let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '@' | '<' | '>' | ',' | ';');
    if domain.is_empty() || domain.len() > 253 || domain.contains(odd) {
        return must_be(setting);
    }
    Ok(domain)
}

pub fn quota(written: &str, setting: &Setting) -> Parsed<u32> {
    if written.strip_prefix('-').and_then(digits).is_some() {
        return Err("is negative: write unlimited for no limit, or 0 for nothing at all".to_owned());
    }
    quota::read(written).map_or_else(|| must_be(setting), Ok)
}

pub fn window(written: &str, setting: &Setting) -> Parsed<Window> {
    let Kind::Window(least, most) = setting.kind else { return must_be(setting) };
    if written.eq_ignore_ascii_case("reset") {
        return Ok(Window::Reset);
    }
    let length = duration::parse(written).filter(|length| (least..=most).contains(length));
    length.map_or_else(|| must_be(setting), |length| Ok(Window::Sliding(length)))
}

/// Networks; a plain address is a network of one.
pub fn networks(written: &str, setting: &Setting) -> Parsed<Vec<ipnet::IpNet>> {
    words(written).map(network::network).collect::<Option<Vec<_>>>().map_or_else(|| must_be(setting), Ok)
}

pub fn action(written: &str, setting: &Setting) -> Parsed<Action> {
    match Action::parse(written) {
        Ok(action) if setting.kind == Kind::DeliveringAction && !action.delivers() => must_be(setting),
        Ok(action) => Ok(action),
        Err(_) if setting.kind == Kind::DeliveringAction => must_be(setting),
        Err(error) => Err(format!("is not an action: {error}")),
    }
}

/// LOG_LEVEL: Python's names, which PolicydRateGuard uses, and those of the log crate.
pub fn log_level(written: &str, setting: &Setting) -> Parsed<log::LevelFilter> {
    match written.to_ascii_lowercase().as_str() {
        // There is nothing of ours above an error.
        "critical" | "fatal" | "error" => Ok(log::LevelFilter::Error),
        "warning" | "warn" => Ok(log::LevelFilter::Warn),
        "info" => Ok(log::LevelFilter::Info),
        "debug" => Ok(log::LevelFilter::Debug),
        "trace" | "notset" => Ok(log::LevelFilter::Trace),
        "off" => Ok(log::LevelFilter::Off),
        _ => must_be(setting),
    }
}

/// SYSLOG: a flag, or a log socket's path.
pub fn syslog(written: &str, setting: &Setting) -> Parsed<Option<PathBuf>> {
    if written.starts_with('/') {
        return path(written, setting).map(Some);
    }
    Ok(flag(written, setting)?.then(|| PathBuf::from(DEV_LOG)))
}

pub fn url(written: &str, setting: &Setting) -> Parsed<String> {
    let rest = written.strip_prefix("https://").or_else(|| written.strip_prefix("http://"));
    let has_host = rest.is_some_and(|rest| rest.starts_with(|c: char| c.is_alphanumeric() || c == '['));
    if !has_host || written.len() > 2048 || written.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return must_be(setting);
    }
    let authority = rest.and_then(|rest| rest.split(['/', '?', '#']).next()).unwrap_or_default();
    if !authority.is_ascii() {
        return Err(
            "has letters beyond ASCII before its path: write an international host name as xn--…, and a user or \
                    password percent-encoded"
                .to_owned(),
        );
    }
    Ok(written.to_owned())
}

pub fn secret_url(written: &str, setting: &Setting) -> Parsed<Secret> {
    url(written, setting).map(Secret::new)
}

pub fn mail_address(written: &str, setting: &Setting) -> Parsed<String> {
    let parts = written.rsplit_once('@').filter(|(local, domain)| !local.is_empty() && !domain.is_empty());
    let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '<' | '>' | ',' | ';');
    if parts.is_none() || written.len() > 254 || written.contains(odd) {
        return must_be(setting);
    }
    Ok(written.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::check::examples::{errors, good};
    use crate::policy::quota::UNLIMITED;

    #[test]
    fn sockets_are_written_as_policyd_rate_guard_or_postfix_write_them() {
        let tcp = |address: &str| ListenAddress::Tcp(address.parse().unwrap());
        let unix = |path: &str| ListenAddress::Unix(path.into());
        for (written, addresses) in [
            ("0.0.0.0,10033", vec![tcp("0.0.0.0:10033")]),
            ("127.0.0.1, 10033", vec![tcp("127.0.0.1:10033")]),
            ("::1,10033", vec![tcp("[::1]:10033")]),
            ("inet:[::1]:10033", vec![tcp("[::1]:10033")]),
            ("/a/b unix:/c  inet:127.0.0.1:1 /a/b", vec![unix("/a/b"), unix("/c"), tcp("127.0.0.1:1")]),
        ] {
            let sockets = good(&[("SOCKET", written)]).config.sockets;
            assert_eq!((sockets.listen, sockets.explicit), (addresses, true), "{written}");
        }
        let by_name = good(&[("SOCKET", "inet:localhost:10033")]).config.sockets.listen;
        assert!(by_name.iter().all(|one| matches!(one, ListenAddress::Tcp(address) if address.ip().is_loopback())));
        assert!(!good(&[]).config.sockets.explicit);
        for wrong in ["unix:relative", "unix:", "/a/", &format!("/{}", "a".repeat(107)), "127.0.0.1:10033", "1.2.3,5"] {
            assert_eq!(errors(&[("SOCKET", wrong)]).len(), 1, "{wrong}");
        }
    }

    #[test]
    fn the_quota_is_a_number_or_a_word() {
        assert_eq!(good(&[("QUOTA", "Unlimited")]).config.quota.default, UNLIMITED);
        assert_eq!(good(&[("QUOTA", "4294967294")]).config.quota.default, UNLIMITED - 1);
        let negative = "QUOTA is negative: write unlimited for no limit, or 0 for nothing at all";
        assert_eq!(errors(&[("QUOTA", "-1")]), [negative]);
        for wrong in ["1e3", "+5", "1 000", "0x10", "-", "--1"] {
            assert_eq!(errors(&[("QUOTA", wrong)]).len(), 1, "{wrong}");
        }
    }
}
