//! Client addresses: which address a request came from, and which network that is counted as.
//!
//! An IPv4-mapped IPv6 address (`::ffff:192.0.2.1`) is the IPv4 address everywhere here, so that one client has one
//! address.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};

/// Reads a `client_address` attribute. None if it is empty, `unknown` or otherwise no address.
pub fn address(written: &str) -> Option<IpAddr> {
    // A link-local address may carry the interface it came in by (`fe80::1%eth0`).
    let bare = written.split_once('%').map_or(written, |(address, _)| address);
    bare.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

/// Reads an address or a network in CIDR notation. Bits beyond the prefix are cleared.
pub fn network(written: &str) -> Option<IpNet> {
    let net = match written.parse::<IpNet>() {
        Ok(net) => net.trunc(),
        Err(_) => return written.parse::<IpAddr>().ok().map(|address| IpNet::from(address.to_canonical())),
    };
    Some(unmapped(net).unwrap_or(net))
}

/// The network that is an account of its own: one IPv4 address, or the /64 that one IPv6 customer has.
pub fn neighbourhood(address: IpAddr) -> IpNet {
    around(address, 32, 64)
}

/// The place that the measure `networks` counts: a /24 or a /48.
pub fn place(address: IpAddr) -> IpNet {
    around(address, 24, 48)
}

fn around(address: IpAddr, v4: u8, v6: u8) -> IpNet {
    let address = address.to_canonical();
    let whole = IpNet::from(address);
    let prefix = if address.is_ipv4() { v4 } else { v6 };
    IpNet::new(address, prefix).map_or(whole, |net| net.trunc())
}

/// The IPv4 network that a network inside `::ffff:0:0/96` stands for.
fn unmapped(net: IpNet) -> Option<IpNet> {
    let IpNet::V6(net) = net else { return None };
    let prefix = net.prefix_len().checked_sub(96)?;
    let address: Ipv4Addr = net.addr().to_ipv4_mapped()?;
    Ipv4Net::new(address, prefix).ok().map(IpNet::V4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_postfix_sends() {
        for (written, read) in [
            ("192.0.2.7", Some("192.0.2.7")),
            ("::ffff:192.0.2.7", Some("192.0.2.7")),
            ("2001:DB8::1", Some("2001:db8::1")),
            ("fe80::1%eth0", Some("fe80::1")),
            ("unknown", None),
            ("", None),
            ("192.0.2.7/24", None),
            ("mail.example.com", None),
        ] {
            assert_eq!(address(written).map(|a| a.to_string()).as_deref(), read, "{written}");
        }
    }

    #[test]
    fn reads_networks_and_single_addresses() {
        for (written, read) in [
            ("192.0.2.7", Some("192.0.2.7/32")),
            ("192.0.2.7/24", Some("192.0.2.0/24")),
            ("::ffff:192.0.2.7", Some("192.0.2.7/32")),
            ("::ffff:192.0.2.7/120", Some("192.0.2.0/24")),
            ("::ffff:0:0/96", Some("0.0.0.0/0")),
            ("2001:db8::1/48", Some("2001:db8::/48")),
            ("::/0", Some("::/0")),
            ("192.0.2.7/33", None),
            ("example.com/24", None),
        ] {
            assert_eq!(network(written).map(|n| n.to_string()).as_deref(), read, "{written}");
        }
    }

    #[test]
    fn one_customer_is_one_neighbour_in_one_place() {
        let of = |text: &str| address(text).map(|a| (neighbourhood(a).to_string(), place(a).to_string())).unwrap();
        assert_eq!(of("192.0.2.7"), ("192.0.2.7/32".into(), "192.0.2.0/24".into()));
        assert_eq!(of("2001:db8:1:2:3::4"), ("2001:db8:1:2::/64".into(), "2001:db8:1::/48".into()));
        assert_eq!(of("::ffff:192.0.2.7"), of("192.0.2.7"));
    }

    proptest! {
        #[test]
        fn a_mapped_address_is_the_ipv4_address(bits: u32) {
            let v4 = Ipv4Addr::from(bits);
            let mapped = IpAddr::from(v4.to_ipv6_mapped());
            prop_assert_eq!(address(&mapped.to_string()), Some(IpAddr::from(v4)));
            prop_assert_eq!(place(mapped), place(v4.into()));
            prop_assert!(place(mapped).contains(&IpAddr::from(v4)));
        }
    }
}
