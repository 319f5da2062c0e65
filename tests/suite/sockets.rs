//! Sockets that are handed over at start, and unix sockets made by root where another user may interfere.

use std::fs::{self, Permissions};
use std::io;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{own_process, root};
use nix::fcntl::{AT_FDCWD, AtFlags, FcntlArg, FdFlag, OFlag, RenameFlags, fcntl, renameat2};
use nix::unistd::fchownat;
use policyd_rate_guard::config::{ListenAddress, Sockets};
use policyd_rate_guard::system::privileges::Identity;
use policyd_rate_guard::system::sockets::{self, Bound, Error, Listener};

fn settings(listen: Vec<ListenAddress>, explicit: bool) -> Sockets {
    Sockets { listen, explicit, mode: 0o660, user: "nobody".into(), group: None }
}

fn unix(path: &Path) -> ListenAddress {
    ListenAddress::Unix(path.to_owned())
}

fn names(bound: &[Bound]) -> Vec<String> {
    bound.iter().map(ToString::to_string).collect()
}

/// Hands descriptors over as systemd does, but from number `first` on, below which are those of all tests of this process.
fn hand_over(command: &mut Command, first: i32, descriptors: &[&dyn AsFd]) {
    for (number, descriptor) in (first..).zip(descriptors) {
        // Copies that the new process inherits; they stay open here too.
        assert_eq!(fcntl(descriptor.as_fd(), FcntlArg::F_DUPFD(number)).unwrap(), number);
    }
    command.env("LISTEN_FDS", descriptors.len().to_string()).env("LISTEN_FDS_FIRST_FD", first.to_string());
}

/// Sets LISTEN_PID to the process that is run, as only its parent's shell can.
const WITH_LISTEN_PID: &[&str] = &["sh", "-c", r#"LISTEN_PID=$$ exec "$@""#, "sh"];

#[test]
fn sockets_handed_over_replace_the_default() {
    let Some(mut command) = own_process::command("sockets::sockets_handed_over_replace_the_default", WITH_LISTEN_PID)
    else {
        let default = ListenAddress::Tcp("127.0.0.1:0".parse().unwrap());
        let bound = sockets::listen(&settings(vec![default], false), None).unwrap();
        assert_eq!(names(&bound), std::env::var("EXPECTED_NAMES").unwrap().split(' ').collect::<Vec<_>>());
        for socket in &bound {
            assert!(socket.inherited && socket.path.is_none());
            let flags = FdFlag::from_bits_retain(fcntl(socket.listener.as_fd(), FcntlArg::F_GETFD).unwrap());
            assert!(flags.contains(FdFlag::FD_CLOEXEC));
            let flags = OFlag::from_bits_retain(fcntl(socket.listener.as_fd(), FcntlArg::F_GETFL).unwrap());
            assert!(flags.contains(OFlag::O_NONBLOCK));
            // One client waits at each.
            let accept = || match &socket.listener {
                Listener::Tcp(listener) => listener.accept().map(drop),
                Listener::Unix(listener) => listener.accept().map(drop),
            };
            accept().unwrap();
            assert_eq!(accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        }
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policyd");
    let (unix, v4) = (UnixListener::bind(&path).unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    let v6 = TcpListener::bind("[::1]:0").unwrap();
    let (v4_address, v6_address) = (v4.local_addr().unwrap(), v6.local_addr().unwrap());
    let _clients = (UnixStream::connect(&path), TcpStream::connect(v4_address), TcpStream::connect(v6_address));
    hand_over(&mut command, 600, &[&v4, &unix, &v6]);
    command.env("EXPECTED_NAMES", format!("inet:{v4_address} unix:{} inet:{v6_address}", path.display()));
    own_process::succeeds(&mut command);
    assert!(path.exists());
}

#[test]
fn an_explicit_socket_is_opened_beside_those_handed_over() {
    let Some(mut command) = own_process::command("sockets::an_explicit_socket_is_opened_beside_those_handed_over", &[])
    else {
        let folder = PathBuf::from(std::env::var_os("FOLDER").unwrap());
        // The first is handed over, the second is it too by another name.
        let listen = ["policyd", "./link/policyd", "another"].map(|name| unix(&folder.join(name)));
        let bound = sockets::listen(&settings(listen.into(), true), None).unwrap();
        let expected = ["policyd", "another"].map(|name| format!("unix:{}", folder.join(name).display()));
        assert_eq!(names(&bound), expected);
        assert_eq!([bound[0].inherited, bound[1].inherited], [true, false]);
        assert!(bound[1].path.as_ref().unwrap().remove().unwrap());
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    symlink(".", folder.path().join("link")).unwrap();
    let listener = UnixListener::bind(folder.path().join("policyd")).unwrap();
    hand_over(&mut command, 700, &[&listener]);
    own_process::succeeds(command.env("FOLDER", folder.path()));
}

#[test]
fn what_cannot_be_listened_on_is_refused_by_its_number() {
    let Some(mut command) = own_process::command("sockets::what_cannot_be_listened_on_is_refused_by_its_number", &[])
    else {
        let error = sockets::listen(&settings(vec![], false), None).unwrap_err().to_string();
        assert_eq!(error, std::env::var("EXPECTED_ERROR").unwrap());
        return;
    };
    let good = TcpListener::bind("127.0.0.1:0").unwrap();
    let connection = TcpStream::connect(good.local_addr().unwrap()).unwrap();
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    let file = tempfile::tempfile().unwrap();
    let neither = "it is neither a TCP nor a unix stream socket";
    let not_listening = "it does not listen (Accept=yes is not supported)";
    let unfit: [(&dyn AsFd, &str); 3] = [(&connection, not_listening), (&datagrams, neither), (&file, neither)];
    for (first, (unfit, why)) in (800..).step_by(10).zip(unfit) {
        hand_over(&mut command, first, &[&good, unfit]);
        let expected = format!("cannot use socket number 2 of those handed over at start: {why}; see the socket unit");
        command.env("EXPECTED_ERROR", expected);
        own_process::succeeds(&mut command);
    }
}

#[test]
fn sockets_for_another_process_are_left_alone() {
    let Some(mut command) = own_process::command("sockets::sockets_for_another_process_are_left_alone", &[]) else {
        let default = ListenAddress::Tcp("127.0.0.1:0".parse().unwrap());
        let bound = sockets::listen(&settings(vec![default], false), None).unwrap();
        assert!(bound.iter().all(|socket| !socket.inherited));
        return;
    };
    hand_over(&mut command, 900, &[&TcpListener::bind("127.0.0.1:0").unwrap()]);
    command.env("LISTEN_PID", "1");
    own_process::succeeds(&mut command);
}

/// A folder like Postfix's queue directory: root's own, with one of nobody's in it.
struct Spool {
    folder: tempfile::TempDir,
    nobody: Identity,
}

impl Spool {
    fn new() -> Spool {
        let nobody = Identity::resolve("nobody", Some("daemon")).unwrap();
        let spool = Spool { folder: tempfile::tempdir().unwrap(), nobody };
        fs::set_permissions(spool.folder.path(), Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(spool.at("nobodys")).unwrap();
        spool.give("nobodys");
        // What must stay root's, in a place that only root may enter.
        fs::create_dir(spool.at("treasure")).unwrap();
        fs::set_permissions(spool.at("treasure"), Permissions::from_mode(0o700)).unwrap();
        fs::write(spool.at("treasure/file"), "gold").unwrap();
        spool
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn give(&self, name: &str) {
        chown(self.at(name), Some(self.nobody.uid.as_raw()), Some(self.nobody.gid.as_raw())).unwrap();
    }

    fn listen(&self, name: &str) -> Result<Vec<Bound>, Error> {
        sockets::listen(&settings(vec![unix(&self.at(name))], true), Some(&self.nobody))
    }

    /// Owner, group and mode.
    fn standing(&self, name: &str) -> (u32, u32, u32) {
        let found = fs::symlink_metadata(self.at(name)).unwrap();
        (found.uid(), found.gid(), found.mode() & 0o7777)
    }

    fn nobodys(&self, mode: u32) -> (u32, u32, u32) {
        (self.nobody.uid.as_raw(), self.nobody.gid.as_raw(), mode)
    }

    fn assert_treasure_is_roots(&self) {
        assert_eq!(self.standing("treasure"), (0, 0, 0o700));
        assert_eq!(self.standing("treasure/file"), (0, 0, 0o644));
        assert_eq!(fs::read(self.at("treasure/file")).unwrap(), b"gold");
        let names: Vec<_> =
            fs::read_dir(self.at("treasure")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["file"]);
    }
}

#[test]
fn root_gives_the_socket_and_a_directory_it_made() {
    if !root::is_root("root_gives_the_socket_and_a_directory_it_made") {
        return;
    }
    let spool = Spool::new();
    let _bound = spool.listen("rateguard/policyd").unwrap();
    assert_eq!(spool.standing("rateguard"), spool.nobodys(0o755));
    assert_eq!(spool.standing("rateguard/policyd"), spool.nobodys(0o660));
    UnixStream::connect(spool.at("rateguard/policyd")).unwrap();
}

#[test]
fn root_leaves_a_directory_that_exists_as_it_is() {
    if !root::is_root("root_leaves_a_directory_that_exists_as_it_is") {
        return;
    }
    let spool = Spool::new();
    fs::create_dir(spool.at("systemds")).unwrap();
    fs::set_permissions(spool.at("systemds"), Permissions::from_mode(0o751)).unwrap();
    let _bound = spool.listen("systemds/policyd").unwrap();
    assert_eq!(spool.standing("systemds"), (0, 0, 0o751));
    assert_eq!(spool.standing("systemds/policyd"), spool.nobodys(0o660));
}

#[test]
fn root_follows_its_own_links_only() {
    if !root::is_root("root_follows_its_own_links_only") {
        return;
    }
    let spool = Spool::new();
    symlink("treasure/../nobodys/.", spool.at("roots-link")).unwrap();
    let bound = spool.listen("roots-link/policyd").unwrap();
    assert_eq!(spool.standing("nobodys/policyd"), spool.nobodys(0o660));
    assert!(bound[0].path.as_ref().unwrap().remove().unwrap());

    // A link in a directory of nobody's may be a planted one, even where its owner is root.
    symlink(spool.at("treasure"), spool.at("nobodys/link")).unwrap();
    for name in ["nobodys/link/policyd", "nobodys/link/new/policyd"] {
        let error = spool.listen(name).unwrap_err();
        assert!(matches!(&error, Error::PlantedLink { path } if *path == spool.at("nobodys/link")), "{error}");
    }
    // So may one of nobody's in a directory of root's, from an earlier time.
    symlink(spool.at("treasure"), spool.at("old-link")).unwrap();
    let link = spool.at("old-link");
    fchownat(AT_FDCWD, &link, Some(spool.nobody.uid), None, AtFlags::AT_SYMLINK_NOFOLLOW).unwrap();
    assert!(matches!(spool.listen("old-link/policyd"), Err(Error::PlantedLink { .. })));
    spool.assert_treasure_is_roots();
}

#[test]
fn links_in_the_sockets_place_gain_nothing() {
    if !root::is_root("links_in_the_sockets_place_gain_nothing") {
        return;
    }
    let spool = Spool::new();
    // To a file, to a file that is not there, and to a dead socket of root's.
    drop(UnixListener::bind(spool.at("dead")).unwrap());
    for target in ["treasure/file", "treasure/new", "dead"] {
        symlink(spool.at(target), spool.at("nobodys/policyd")).unwrap();
        let error = spool.listen("nobodys/policyd").unwrap_err();
        assert!(matches!(error, Error::NotASocket { kind: "symbolic link", .. }), "{error}");
        fs::remove_file(spool.at("nobodys/policyd")).unwrap();
    }
    assert_eq!(spool.standing("dead").0, 0);
    fs::hard_link(spool.at("treasure/file"), spool.at("nobodys/policyd")).unwrap();
    assert!(matches!(spool.listen("nobodys/policyd"), Err(Error::NotASocket { kind: "regular file", .. })));
    spool.assert_treasure_is_roots();
}

#[test]
fn a_socket_below_anothers_directory_is_bound_through_its_descriptor() {
    if !root::is_root("a_socket_below_anothers_directory_is_bound_through_its_descriptor") {
        return;
    }
    let spool = Spool::new();
    fs::create_dir(spool.at("nobodys/deeper")).unwrap();
    let bound = spool.listen("nobodys/deeper/policyd").unwrap();
    let Listener::Unix(listener) = &bound[0].listener else { panic!("{bound:?}") };
    let address = listener.local_addr().unwrap();
    assert!(address.as_pathname().unwrap().starts_with("/proc/self/fd"), "{address:?}");
    assert_eq!(spool.standing("nobodys/deeper/policyd"), spool.nobodys(0o660));
    // It is known by its real name none the less.
    assert_eq!(names(&bound), [format!("unix:{}", spool.at("nobodys/deeper/policyd").display())]);
    UnixStream::connect(spool.at("nobodys/deeper/policyd")).unwrap();
}

/// Who owns a directory on the way swaps its entry for a link, as fast as they can, while root starts again and again.
#[test]
fn whoever_swaps_directories_while_root_starts_gains_nothing() {
    if !root::is_root("whoever_swaps_directories_while_root_starts_gains_nothing") {
        return;
    }
    let spool = Spool::new();
    let (step, other) = (spool.at("nobodys/step"), spool.at("nobodys/other"));
    fs::create_dir(&step).unwrap();
    symlink(spool.at("treasure"), &other).unwrap();
    std::thread::scope(|scope| {
        let root = scope.spawn(|| {
            let (mut accepted, mut refused) = (0, 0);
            while accepted < 100 || refused < 100 {
                match spool.listen("nobodys/step/policyd") {
                    // Its dead socket stays for the next round.
                    Ok(_) => accepted += 1,
                    Err(Error::PlantedLink { .. }) => refused += 1,
                    Err(error) => panic!("{error}"),
                }
                spool.assert_treasure_is_roots();
            }
        });
        while !root.is_finished() {
            renameat2(AT_FDCWD, &step, AT_FDCWD, &other, RenameFlags::RENAME_EXCHANGE).unwrap();
        }
    });
}
