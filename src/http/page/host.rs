//! Under which names the page may be asked for. Pure.
//!
//! A web page of anybody's can have its own name point to 127.0.0.1 once it is open (DNS rebinding); the operator's browser
//! then takes what listens here for that page's own server. The browser still sends the page's name in `Host`. So only what no
//! stranger can own is answered: IP addresses, `localhost`, and the name that METRICS_LISTEN was written with.

use std::net::{IpAddr, Ipv6Addr};

/// Whether a `Host` (or a request's authority) is ours. `own` is the name in METRICS_LISTEN, if it is one.
pub fn is_ours(host: &str, own: Option<&str>) -> bool {
    let Some(name) = without_port(host) else { return false };
    let is = |own: &str| own.eq_ignore_ascii_case(name);
    match name.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').is_some_and(|address| address.parse::<Ipv6Addr>().is_ok()),
        None => is("localhost") || own.is_some_and(is) || name.parse::<IpAddr>().is_ok_and(|address| address.is_ipv4()),
    }
}

/// The name or address, an IPv6 one still in its brackets; `None` if what follows is no port.
fn without_port(host: &str) -> Option<&str> {
    let end = match host.starts_with('[') {
        true => host.find(']').map(|place| place + 1)?,
        false => host.find(':').unwrap_or(host.len()),
    };
    let (name, port) = host.split_at_checked(end)?;
    let is_port = |port: &str| port.len() <= 5 && port.bytes().all(|byte| byte.is_ascii_digit());
    (port.is_empty() || port.strip_prefix(':').is_some_and(is_port)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_our_own_names_are_ours() {
        for host in
            ["127.0.0.1", "127.0.0.1:9464", "192.0.2.7:80", "[::1]", "[::1]:9464", "[2001:db8::7]:1", "localhost"]
        {
            assert!(is_ours(host, None), "{host}");
        }
        assert!(is_ours("LocalHost:9464", None));
        assert!(is_ours("status.example.com:9464", Some("Status.Example.com")));
    }

    #[test]
    fn whatever_a_stranger_may_own_is_not() {
        for host in [
            "",
            ":9464",
            "rebind.example.net",
            "rebind.example.net:9464",
            "localhost.example.net",
            "127.0.0.1.example.net",
            "example.net#127.0.0.1",
            "user@127.0.0.1",
            "127.0.0.1:80:80",
            "127.0.0.1:x",
            "127.1",
            "2130706433",
            "0x7f000001",
            "::1",
            "[::1",
            "[::1]x",
            "[127.0.0.1]",
            "[localhost]",
            "127.0.0.1 ",
            "localhost.",
        ] {
            assert!(!is_ours(host, Some("status.example.com")), "{host}");
        }
    }
}
