//! Where systemd listens for the daemon, by what `systemctl show` prints of the socket unit.

use crate::config::ListenAddress;

/// What to ask systemctl(1) for.
pub const PROPERTIES: &str = "Listen,ActiveState,UnitFileState";

/// Returns the addresses that systemd hands over; none if there is no such unit, or it is neither active nor enabled.
pub fn addresses(shown: &str) -> Vec<ListenAddress> {
    let mut found = Vec::new();
    let mut runs = false;
    for (name, value) in shown.lines().filter_map(|line| line.split_once('=')) {
        match name {
            "ActiveState" => runs |= value == "active",
            "UnitFileState" => runs |= value.starts_with("enabled"),
            "Listen" => found.extend(value.strip_suffix(" (Stream)").and_then(address)),
            // As systemd 239, RHEL 8's, has it.
            "ListenStream" => found.extend(address(value)),
            _ => {}
        }
    }
    if runs { found } else { Vec::new() }
}

/// A path, or an IP address with a port. Postfix cannot ask at other kinds of sockets.
fn address(written: &str) -> Option<ListenAddress> {
    match written.starts_with('/') {
        true => Some(ListenAddress::Unix(written.into())),
        false => written.parse().ok().map(ListenAddress::Tcp),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stream_is_an_address() {
        let shown = "Listen=/var/spool/postfix/rateguard/policyd (Stream)\nListen=/var/spool/postfix/private/policyd (Stream)\n\
                     Listen=127.0.0.1:10033 (Stream)\nListen=[::]:10033 (Stream)\nListen=@abstract (Stream)\n\
                     Listen=/run/x (FIFO)\nActiveState=active\nUnitFileState=disabled\n";
        assert_eq!(
            addresses(shown),
            [
                ListenAddress::Unix("/var/spool/postfix/rateguard/policyd".into()),
                ListenAddress::Unix("/var/spool/postfix/private/policyd".into()),
                ListenAddress::Tcp("127.0.0.1:10033".parse().unwrap()),
                ListenAddress::Tcp("[::]:10033".parse().unwrap()),
            ]
        );
    }

    #[test]
    fn a_unit_that_is_not_to_run_listens_nowhere() {
        let listen = "ListenStream=/run/policyd\n";
        assert_eq!(addresses(&format!("{listen}ActiveState=inactive\nUnitFileState=enabled\n")).len(), 1);
        assert!(addresses(&format!("{listen}ActiveState=inactive\nUnitFileState=disabled\n")).is_empty());
        assert!(addresses("ActiveState=inactive\nUnitFileState=\n").is_empty());
        assert!(addresses("").is_empty());
    }
}
