//! The sockets: where the daemon listens, whether it answers there, and who may connect.

use std::io;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::unistd::User;

use super::files::permissions;
use crate::commands::query::{self, PACKAGED_SOCKET};
use crate::config::{Config, ListenAddress};
use crate::doctor::checks::Target;
use crate::doctor::postfix::Postfix;
use crate::doctor::{Finding, access, handed, selinux};

/// For the answer of one socket.
const TIMEOUT: Duration = Duration::from_secs(5);
const SOCKET_UNIT: &str = "policyd-rate-guard.socket";

/// Follows links, so that a socket has one path.
pub fn followed(address: &ListenAddress) -> ListenAddress {
    match address {
        ListenAddress::Unix(path) => ListenAddress::Unix(path.canonicalize().unwrap_or_else(|_| path.clone())),
        ListenAddress::Tcp(_) => address.clone(),
    }
}

/// Returns the addresses of a check; none if its name cannot be looked up now.
pub fn addresses(target: &Target) -> Vec<ListenAddress> {
    match target {
        Target::Unix(path) => vec![followed(&ListenAddress::Unix(path.clone()))],
        Target::Tcp(written) => {
            let (host, port) = written.rsplit_once(':').unwrap_or((written, ""));
            let port = port_of_service(port).unwrap_or_else(|| port.to_owned());
            ListenAddress::parse(&format!("inet:{host}:{port}")).unwrap_or_default()
        }
    }
}

/// Returns the port of a service's name in services(5).
fn port_of_service(name: &str) -> Option<String> {
    let services = std::fs::read_to_string("/etc/services").ok()?;
    let ports = services.lines().filter_map(|line| {
        let mut words = line.split('#').next()?.split_whitespace();
        let (official, port) = (words.next()?, words.next()?.strip_suffix("/tcp")?);
        (official == name || words.any(|alias| alias == name)).then(|| port.to_owned())
    });
    ports.into_iter().next()
}

/// Returns the sockets that systemd hands over; none without systemd.
pub fn handed_over() -> Vec<ListenAddress> {
    let shown = Command::new("systemctl").args(["show", "-p", handed::PROPERTIES, SOCKET_UNIT]).output();
    shown.map(|output| handed::addresses(&String::from_utf8_lossy(&output.stdout))).unwrap_or_default()
}

/// A test request, which is not counted. `own` is where the daemon listens.
pub fn one_socket(socket: &ListenAddress, own: &[ListenAddress], findings: &mut Vec<Finding>) {
    let name = socket.to_string();
    let Err(error) = query::ask(socket, &query::test_request(), TIMEOUT) else { return };
    let (id, mend) = match error.kind() {
        io::ErrorKind::PermissionDenied => (
            "no-permission",
            "the socket and its directories must let user postfix in: with the packaged socket unit, directory root:root \
             0755 and socket postfix:postfix 0660 (run doctor as root to see it as that user)"
                .to_owned(),
        ),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused if own.contains(socket) => (
            "nobody-listens",
            // systemd does not start a socket whose service runs already.
            "systemctl stop policyd-rate-guard.service; \
             systemctl start policyd-rate-guard.socket policyd-rate-guard.service"
                .to_owned(),
        ),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            let own: Vec<String> = own.iter().map(ToString::to_string).collect();
            (
                "nobody-listens",
                format!("in main.cf, ask where the daemon listens ({}); or name this socket in SOCKET", own.join(", ")),
            )
        }
        _ => ("no-answer", "systemctl status policyd-rate-guard.service; then restart it".to_owned()),
    };
    findings.push(Finding::problem(
        id,
        format!("{name}: {error}"),
        "Postfix gets no answer here, and lets mail pass or refuses it by its default_action.",
        mend,
    ));
}

/// A socket of the socket unit's that every user of this host may connect to. Of one that the daemon makes, SOCKET_MODE was warned of.
pub fn for_everybody(socket: &ListenAddress) -> Option<Finding> {
    let ListenAddress::Unix(path) = socket else { return None };
    let directories = path.ancestors().skip(1).filter_map(permissions);
    access::may_connect(access::ANYBODY, permissions(path)?, directories).then(|| {
        Finding::advice(
            "open-socket",
            format!("every user of this host may connect to {socket}"),
            "Whoever connects may ask in anybody's name, and so use up others' quotas.",
            format!(
                "SocketUser=postfix and SocketMode=0660 (`systemctl edit {SOCKET_UNIT}`), as the packaged unit has them"
            ),
        )
    })
}

/// smtpd connects as Postfix's own user, which USER need not be.
pub fn for_postfix(path: &Path, postfix: &Postfix, config: &Config, findings: &mut Vec<Finding>) {
    let owner = postfix.main.get("mail_owner").map_or("postfix", String::as_str);
    let Some(user) = User::from_name(owner).ok().flatten().filter(|_| owner != config.sockets.user) else { return };
    // A socket that cannot be looked at has its finding already.
    let Some(socket) = permissions(path) else { return };
    let directories = path.ancestors().skip(1).filter_map(permissions);
    if !access::may_connect(access::User { uid: user.uid.as_raw(), gid: user.gid.as_raw() }, socket, directories) {
        findings.push(Finding::problem(
            "no-permission",
            format!("unix:{}: user {owner} may not connect", path.display()),
            "smtpd runs as that user, with its own group alone.",
            format!("set GROUP to the group of user {owner}, or listen on the socket that systemd hands over"),
        ));
    }
}

/// Checks the packaged socket only, which our policy module is for: what a site's own policy allows is not known here.
pub fn for_selinux(path: &Path) -> Option<Finding> {
    let directory = path.parent().filter(|_| path == Path::new(PACKAGED_SOCKET))?;
    let enforce = std::fs::read_to_string("/sys/fs/selinux/enforce").ok()?;
    let context = Command::new("stat").args(["-c", "%C"]).arg(directory).output().ok()?;
    selinux::judge(&enforce, directory, &String::from_utf8_lossy(&context.stdout))
}
