//! What systemd hears, on a notify socket like its own.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::Command;
use std::time::Duration;

use crate::support::own_process;
use policyd_rate_guard::system::systemd::{self, ServiceManager};

const TIMEOUT: Duration = Duration::from_secs(30);

#[test]
fn every_state_is_told() {
    let Some(mut command) = own_process::command("systemd::every_state_is_told", &[]) else {
        let manager = ServiceManager::start(|_, _| {}).unwrap();
        manager.ready("waiting for the database\nMAINPID=1");
        manager.status("64 connections");
        manager.reloading();
        manager.keep_alive();
        manager.stopping(TIMEOUT);
        manager.flush(TIMEOUT);
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    hears_every_state(&UnixDatagram::bind(&path).unwrap(), command.env("NOTIFY_SOCKET", &path));
    // The abstract namespace, as in containers' supervisors.
    let name = path.to_str().unwrap();
    let manager = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(name).unwrap()).unwrap();
    hears_every_state(&manager, command.env("NOTIFY_SOCKET", format!("@{name}")));
}

fn hears_every_state(manager: &UnixDatagram, daemon: &mut Command) {
    own_process::succeeds(daemon);
    manager.set_nonblocking(true).unwrap();
    let mut buffer = [0; 1024];
    let mut heard = Vec::new();
    while let Ok(length) = manager.recv(&mut buffer) {
        heard.push(String::from_utf8(buffer[..length].to_vec()).unwrap());
    }
    let reloading = heard.remove(2);
    assert_eq!(
        heard,
        [
            "READY=1\nSTATUS=waiting for the database MAINPID=1\n",
            "STATUS=64 connections\n",
            "WATCHDOG=1\n",
            "STOPPING=1\nEXTEND_TIMEOUT_USEC=30000000\n"
        ]
    );
    let time = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
    assert!(time.trim_end().parse::<u64>().unwrap() > 0, "{reloading}");
}

#[test]
fn a_manager_that_does_not_read_holds_nobody_up_and_later_hears_what_is_told_once() {
    let name = "systemd::a_manager_that_does_not_read_holds_nobody_up_and_later_hears_what_is_told_once";
    let Some(mut command) = own_process::command(name, &[]) else {
        let path = std::env::var_os("NOTIFY_SOCKET").unwrap();
        let socket = UnixDatagram::bind(&path).unwrap();
        let other = UnixDatagram::unbound().unwrap();
        other.set_nonblocking(true).unwrap();
        while other.send_to(b"X=1", &path).is_ok() {}
        let manager = ServiceManager::start(|_, _| {}).unwrap();
        for _ in 0..1000 {
            manager.status("64 connections");
            manager.keep_alive();
        }
        manager.ready("ready");
        socket.set_read_timeout(Some(TIMEOUT)).unwrap();
        let mut buffer = [0; 1024];
        let mut hear = || socket.recv(&mut buffer).map(|length| buffer[..length].to_vec()).unwrap();
        while hear() != b"READY=1\nSTATUS=ready\n" {}
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    own_process::succeeds(command.env("NOTIFY_SOCKET", folder.path().join("notify")));
}

#[test]
fn without_systemd_nothing_happens() {
    let Some(mut command) = own_process::command("systemd::without_systemd_nothing_happens", &[]) else {
        let manager = ServiceManager::start(|_, _| {}).unwrap();
        manager.ready("ready");
        manager.reloading();
        manager.keep_alive();
        manager.stopping(TIMEOUT);
        manager.flush(TIMEOUT);
        assert_eq!(systemd::watchdog_interval(), None);
        assert!(!systemd::under_systemd_journal());
        return;
    };
    for name in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "JOURNAL_STREAM"] {
        command.env_remove(name);
    }
    own_process::succeeds(&mut command);
}

#[test]
fn the_watchdog_is_fed_twice_per_period() {
    let wrapper = ["sh", "-c", r#"WATCHDOG_PID=$$ exec "$@""#, "sh"];
    let Some(mut command) = own_process::command("systemd::the_watchdog_is_fed_twice_per_period", &wrapper) else {
        assert_eq!(systemd::watchdog_interval(), Some(Duration::from_secs(15)));
        return;
    };
    own_process::succeeds(command.env("WATCHDOG_USEC", "30000000"));
}

#[test]
fn a_watchdog_of_another_process_is_not_ours() {
    let Some(mut command) = own_process::command("systemd::a_watchdog_of_another_process_is_not_ours", &[]) else {
        assert_eq!(systemd::watchdog_interval(), None);
        return;
    };
    own_process::succeeds(command.env("WATCHDOG_USEC", "30000000").env("WATCHDOG_PID", "1"));
}
