//! From root to USER: what the kernel says about the process afterwards, and what that process can and cannot do.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod support {
    pub mod one_thread;
    pub mod root;
}

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use nix::sys::prctl;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid, getgroups, setegid, seteuid, setgid, setgroups, setuid};
use policyd_rate_guard::config::{ListenAddress, Sockets};
use policyd_rate_guard::system::privileges::{self, Error, Identity};
use policyd_rate_guard::system::sockets;

/// Makes user nobody a member of two more groups, in a mount namespace of the test's own.
const WITH_MORE_GROUPS: &[&str] = &[
    "unshare",
    "--mount",
    "sh",
    "-ec",
    r#"group=$(mktemp)
    { cat /etc/group; echo one-more:x:61001:nobody; echo another:x:61002:daemon,nobody; } >"$group"
    mount --bind "$group" /etc/group
    rm "$group"
    exec "$@""#,
    "sh",
];
/// A root that may not change its user, as in some containers.
const WITHOUT_CAPABILITIES: &[&str] = &["setpriv", "--bounding-set=-setgid,-setuid", "--inh-caps=-setgid,-setuid"];

fn main() -> ExitCode {
    if !support::root::is_root("tests/privileges.rs") {
        return ExitCode::SUCCESS;
    }
    support::one_thread::main(&[
        case!(nothing_of_root_is_left),
        case!(root_cannot_be_regained),
        case!(the_group_may_be_another_than_the_users_own),
        case!(the_users_supplementary_groups_come_along).through(WITH_MORE_GROUPS),
        case!(groups_are_those_that_id_knows),
        case!(an_unknown_user_changes_nothing),
        case!(a_root_without_the_right_to_drop_is_told_so).through(WITHOUT_CAPABILITIES),
        case!(who_is_not_root_stays_who_they_are),
        case!(what_is_made_is_not_for_everybody),
        case!(others_of_the_same_user_cannot_look_into_the_process),
        case!(the_dropped_daemon_can_renew_its_socket),
        case!(the_dropped_daemon_cannot_take_a_socket_it_may_not_ask),
    ])
}

fn nothing_of_root_is_left() {
    // As the shell of an administrator may hand on.
    setgroups(&[Gid::from_raw(0), Gid::from_raw(4), Gid::from_raw(27)]).unwrap();
    let became = privileges::become_user(&settings("nobody", None)).unwrap().unwrap();
    let (uid, gid) = (id(&["-u", "nobody"])[0], id(&["-g", "nobody"])[0]);
    assert_eq!((became.uid.as_raw(), became.gid.as_raw()), (uid, gid));
    assert_dropped(uid, gid);
    assert_eq!(status("Groups"), [gid.to_string()]);
}

fn root_cannot_be_regained() {
    privileges::become_user(&settings("nobody", None)).unwrap();
    let (uid, gid) = (Uid::from_raw(0), Gid::from_raw(0));
    assert!([setuid(uid), seteuid(uid), setgid(gid), setegid(gid), setgroups(&[gid])].iter().all(Result::is_err));
    assert!(fs::read("/etc/shadow").is_err());
}

fn the_group_may_be_another_than_the_users_own() {
    privileges::become_user(&settings("nobody", Some("daemon"))).unwrap();
    let gid = id(&["-g", "daemon"])[0];
    assert_dropped(id(&["-u", "nobody"])[0], gid);
    assert_eq!(status("Groups"), [gid.to_string()]);
}

fn the_users_supplementary_groups_come_along() {
    let expected = id(&["-G", "nobody"]);
    assert_eq!(expected.len(), 3);
    privileges::become_user(&settings("nobody", None)).unwrap();
    assert_dropped(id(&["-u", "nobody"])[0], id(&["-g", "nobody"])[0]);
    assert_eq!(sorted(status("Groups").iter().map(|group| group.parse().unwrap())), sorted(expected));
}

fn groups_are_those_that_id_knows() {
    let accounts = fs::read_to_string("/etc/passwd").unwrap();
    let users: Vec<&str> = accounts.lines().filter_map(|line| line.split(':').next()).collect();
    assert!(users.contains(&"nobody"));
    for user in users.into_iter().filter(|user| *user != "root") {
        let identity = Identity::resolve(user, None).unwrap();
        assert_eq!(sorted(identity.groups.iter().map(|group| group.as_raw())), sorted(id(&["-G", user])), "{user}");
    }
}

fn an_unknown_user_changes_nothing() {
    let standing = || (status("Uid"), status("Gid"), getgroups().unwrap(), status("CapEff"), status("NoNewPrivs"));
    let before = standing();
    let error = privileges::become_user(&settings("no-such-user", None)).unwrap_err();
    assert!(matches!(error, Error::UnknownUser { .. }), "{error}");
    let error = privileges::become_user(&settings("nobody", Some("no-such-group"))).unwrap_err();
    assert!(matches!(error, Error::UnknownGroup { .. }), "{error}");
    assert_eq!(before, standing());
}

fn a_root_without_the_right_to_drop_is_told_so() {
    let error = privileges::become_user(&settings("nobody", None)).unwrap_err().to_string();
    assert!(error.starts_with("cannot become user nobody: setgroups: "), "{error}");
}

fn who_is_not_root_stays_who_they_are() {
    let (uid, gid) = (Uid::from_raw(id(&["-u", "nobody"])[0]), Gid::from_raw(id(&["-g", "daemon"])[0]));
    setgid(gid).and_then(|()| setuid(uid)).unwrap();
    let before = (status("Uid"), status("Gid"), status("Groups"));
    // Nor do they need the user that root would become.
    assert_eq!(privileges::become_user(&settings("no-such-user", None)).unwrap(), None);
    assert_eq!(before, (status("Uid"), status("Gid"), status("Groups")));
}

fn what_is_made_is_not_for_everybody() {
    umask(Mode::empty());
    privileges::become_user(&settings("nobody", None)).unwrap();
    assert_eq!(umask(Mode::empty()), Mode::S_IWGRP | Mode::S_IRWXO);
    // One that is stricter stays.
    umask(Mode::S_IRWXG | Mode::S_IRWXO);
    privileges::withdraw(None).unwrap();
    assert_eq!(umask(Mode::empty()), Mode::S_IRWXG | Mode::S_IRWXO);
}

fn others_of_the_same_user_cannot_look_into_the_process() {
    privileges::become_user(&settings("nobody", None)).unwrap();
    let environment = format!("/proc/{}/environ", std::process::id());
    let can_look = || Command::new("cat").arg(&environment).output().unwrap().status.success();
    assert!(!can_look());
    // A change of user has a say in it too: set it back, so that the test sees a difference.
    prctl::set_dumpable(true).unwrap();
    assert!(can_look());
    privileges::withdraw(None).unwrap();
    assert!(!can_look());
}

fn the_dropped_daemon_can_renew_its_socket() {
    let path = folder_open_to_all().join("rateguard/policyd");
    let mut settings = settings("nobody", Some("daemon"));
    settings.listen.push(ListenAddress::Unix(path.clone()));

    let identity = Identity::for_root(&settings).unwrap().unwrap();
    let first = sockets::listen(&settings, Some(&identity)).unwrap();
    privileges::withdraw(Some(&identity)).unwrap();
    let _client = UnixStream::connect(&path).unwrap();

    // Removed while it still listens, as at the end of the daemon; then the next one starts, without root.
    assert!(first[0].path.as_ref().unwrap().remove().unwrap());
    drop(first);
    let second = sockets::listen(&settings, Identity::for_root(&settings).unwrap().as_ref()).unwrap();
    let _client = UnixStream::connect(&path).unwrap();
    // One that ended without removing it leaves a dead socket, which is replaced too.
    drop(second);
    let _third = sockets::listen(&settings, None).unwrap();
    let _client = UnixStream::connect(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().uid(), identity.uid.as_raw());
}

fn the_dropped_daemon_cannot_take_a_socket_it_may_not_ask() {
    let folder = folder_open_to_all();
    let mut root = settings("nobody", None);
    root.mode = 0o600;
    root.listen.push(ListenAddress::Unix(folder.join("policyd")));
    let _living = sockets::listen(&root, None).unwrap();
    privileges::become_user(&root).unwrap();

    let error = sockets::listen(&root, None).unwrap_err().to_string();
    assert!(error.contains("which may be in use: Permission denied"), "{error}");
    root.listen = vec![ListenAddress::Unix(folder.join("another"))];
    let error = sockets::listen(&root, None).unwrap_err().to_string();
    assert!(error.ends_with("; start as root, or choose a place where this user may"), "{error}");
}

fn settings(user: &str, group: Option<&str>) -> Sockets {
    Sockets { listen: vec![], explicit: true, mode: 0o660, user: user.into(), group: group.map(Into::into) }
}

fn folder_open_to_all() -> PathBuf {
    let folder = support::one_thread::folder();
    fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
    folder
}

/// The values of a line of /proc/self/status.
fn status(name: &str) -> Vec<String> {
    let text = fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
    line.split_whitespace().map(str::to_owned).collect()
}

/// What id(1) prints, one number after the other.
fn id(arguments: &[&str]) -> Vec<u32> {
    let output = Command::new("id").args(arguments).output().unwrap();
    assert!(output.status.success(), "id {arguments:?}: {output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_whitespace().map(|number| number.parse().unwrap()).collect()
}

fn sorted(numbers: impl IntoIterator<Item = u32>) -> Vec<u32> {
    let mut numbers: Vec<u32> = numbers.into_iter().collect();
    numbers.sort_unstable();
    numbers
}

fn assert_dropped(uid: u32, gid: u32) {
    assert_eq!(status("Uid"), vec![uid.to_string(); 4]);
    assert_eq!(status("Gid"), vec![gid.to_string(); 4]);
    for capabilities in ["CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(status(capabilities), ["0000000000000000"], "{capabilities}");
    }
    assert_eq!(status("NoNewPrivs"), ["1"]);
}
