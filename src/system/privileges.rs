//! The identity of the process: from root to USER, with no way back.
//!
//! All names are looked up first ([`Identity::resolve`]), so that a wrong USER or GROUP is found before anything is done.
//! The drop itself is system calls only, is made before the process has a second thread, and is verified from what the
//! kernel reports afterwards. A process that was not started as root keeps its identity.

use std::ffi::CString;
use std::io;

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{
    Gid, Group, Uid, User, getgrouplist, getgroups, getresgid, getresuid, setgroups, setresgid, setresuid, setuid,
};

use crate::config;

/// Where the kernel tells a process about itself.
const STATUS_FILE: &str = "/proc/self/status";

/// Why privileges could not be dropped. The process must end: it may still be root, in whole or in part.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("USER={user}: there is no such user on this system; create it, or set USER to the user Postfix runs as")]
    UnknownUser { user: String },
    #[error(
        "GROUP={group}: there is no such group on this system; create it, or leave GROUP out for {user}'s own group"
    )]
    UnknownGroup { group: String, user: String },
    #[error("USER={user}: the daemon never runs as root; set USER to the user Postfix runs as")]
    UserIsRoot { user: String },
    #[error(
        "{setting}={name}: the daemon never has root's group as its own; set GROUP to that of the user Postfix runs as"
    )]
    GroupIsRoot { setting: &'static str, name: String },
    #[error("cannot look up {setting}={name}: {source}")]
    Lookup { setting: &'static str, name: String, source: Errno },
    #[error("cannot become user {user}: {call}: {source}; is this root with all its capabilities?")]
    Call { user: String, call: &'static str, source: Errno },
    #[error("cannot become user {user}: the process already has {threads} threads")]
    Threads { user: String, threads: u64 },
    #[error("cannot become user {user}: {STATUS_FILE} does not tell {field}; is /proc mounted?")]
    Status { user: String, field: &'static str },
    #[error("became user {user}, but {leftover}; refusing to go on")]
    Leftover { user: String, leftover: String },
    #[error("cannot keep others out of this process's memory, which is to hold passwords: {0}")]
    Dumpable(Errno),
}

/// The user, group and supplementary groups that the process is to run as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The user's name, for messages.
    pub user: String,
    pub uid: Uid,
    pub gid: Gid,
    /// Supplementary groups as initgroups(3) would set them: the user's own, and `gid`.
    pub groups: Vec<Gid>,
}

impl Identity {
    /// Looks up USER and GROUP, by name or number. Without a group it is the user's primary one.
    ///
    /// Fails when either is unknown, and when the user is root, or the group root's, under whatever name. Of which other groups
    /// the user is a member is the administrator's to say.
    pub fn resolve(user: &str, group: Option<&str>) -> Result<Identity, Error> {
        let lookup = |setting, name: &str, source| Error::Lookup { setting, name: name.to_owned(), source };
        let account = user
            .parse()
            .map_or_else(|_| User::from_name(user), |uid| User::from_uid(Uid::from_raw(uid)))
            .map_err(|source| lookup("USER", user, source))?
            .ok_or_else(|| Error::UnknownUser { user: user.to_owned() })?;
        if account.uid.is_root() {
            return Err(Error::UserIsRoot { user: user.to_owned() });
        }
        let gid = match group {
            None => account.gid,
            Some(group) => {
                group
                    .parse()
                    .map_or_else(|_| Group::from_name(group), |gid| Group::from_gid(Gid::from_raw(gid)))
                    .map_err(|source| lookup("GROUP", group, source))?
                    .ok_or_else(|| Error::UnknownGroup { group: group.to_owned(), user: user.to_owned() })?
                    .gid
            }
        };
        if gid.as_raw() == 0 {
            let (setting, name) = group.map_or(("USER", user), |group| ("GROUP", group));
            return Err(Error::GroupIsRoot { setting, name: name.to_owned() });
        }
        let name = CString::new(account.name.as_str()).map_err(|_| Error::UnknownUser { user: user.to_owned() })?;
        let groups = getgrouplist(&name, gid).map_err(|source| lookup("USER", user, source))?;
        Ok(Identity { user: account.name, uid: account.uid, gid, groups })
    }

    /// USER and GROUP for a process that was started as root. None for any other.
    pub fn for_root(sockets: &config::Sockets) -> Result<Option<Identity>, Error> {
        if !is_root() {
            return Ok(None);
        }
        Identity::resolve(&sockets.user, sockets.group.as_deref()).map(Some)
    }
}

/// Whether the process has root's rights now.
pub fn is_root() -> bool {
    Uid::effective().is_root()
}

/// Returns the name of the person at the terminal: the one who called sudo(8) or doas(1), else the user of this process. To be
/// called before [`become_user`].
pub fn person() -> String {
    let caller = ["SUDO_USER", "DOAS_USER"].into_iter().find_map(|name| std::env::var(name).ok());
    let uid = Uid::current();
    let own = || User::from_uid(uid).ok().flatten().map(|user| user.name);
    let name = caller.filter(|name| !name.is_empty()).or_else(own).unwrap_or_else(|| uid.to_string());
    name.chars().filter(|character| !character.is_control()).collect()
}

/// Whether the process runs as USER.
pub fn is_user(sockets: &config::Sockets) -> bool {
    Identity::resolve(&sockets.user, sockets.group.as_deref()).is_ok_and(|user| user.uid == Uid::effective())
}

/// For every command that asks a database, opens a log or reads what USER may change: as root it becomes USER first and for
/// good, and [`withdraw`]s in any case.
///
/// Returns the user that the process became. Must be called before the process has a second thread.
pub fn become_user(sockets: &config::Sockets) -> Result<Option<Identity>, Error> {
    let identity = Identity::for_root(sockets)?;
    withdraw(identity.as_ref())?;
    Ok(identity)
}

/// What comes before secrets are used and files are made, in this order: gives up root for `identity`, if there is one; closes
/// new files and the process's memory to everybody else.
///
/// Must be called before the process has a second thread.
pub fn withdraw(identity: Option<&Identity>) -> Result<(), Error> {
    if let Some(identity) = identity {
        drop_to(identity)?;
    }
    close_umask();
    // Last: a change of user undoes it.
    not_dumpable()
}

/// Gives up root for `identity`: groups, group and user ids, all capabilities, and the chance to gain any by running
/// another program. Then asks the kernel whether it is so.
///
/// Must be called as root, before the process has a second thread: no-new-privs belongs to a thread, not to a process.
/// After an error the process is in no defined state and must end.
fn drop_to(identity: &Identity) -> Result<(), Error> {
    let user = &identity.user;
    let threads = Status::read(user)?.number("Threads", 10)?;
    if threads != 1 {
        return Err(Error::Threads { user: user.clone(), threads });
    }
    let call = |call| move |source| Error::Call { user: user.clone(), call, source };
    // Groups first and the user last: each step needs what the next one gives up.
    setgroups(&identity.groups).map_err(call("setgroups"))?;
    setresgid(identity.gid, identity.gid, identity.gid).map_err(call("setresgid"))?;
    setresuid(identity.uid, identity.uid, identity.uid).map_err(call("setresuid"))?;
    prctl::set_no_new_privs().map_err(call("no-new-privs"))?;
    verify(identity)
}

/// Keeps other processes of the same user, debuggers and core files away from this process's memory, which holds
/// passwords and tokens.
fn not_dumpable() -> Result<(), Error> {
    prctl::set_dumpable(false).map_err(Error::Dumpable)
}

/// Files that this process makes from here on are not readable by all: the database holds who writes to whom. A stricter umask
/// (UMask= of the unit) stays. Must be called while there is one thread, since reading the umask sets it for a moment.
fn close_umask() {
    let ours = Mode::S_IWGRP | Mode::S_IRWXO;
    let inherited = umask(ours);
    umask(inherited | ours);
}

/// Raises the limit of open files as far as the process may, and returns the limit that now holds: under a sandbox that
/// forbids raising it, the one that the unit has set.
pub fn raise_open_files() -> io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let raised = soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok();
    Ok(if raised { hard } else { soft })
}

/// Compares what the kernel says the process is with what it should be.
fn verify(identity: &Identity) -> Result<(), Error> {
    let user = &identity.user;
    let leftover = |leftover: String| Err(Error::Leftover { user: user.clone(), leftover });
    let call = |call| move |source| Error::Call { user: user.clone(), call, source };

    let uids = getresuid().map_err(call("getresuid"))?;
    if [uids.real, uids.effective, uids.saved] != [identity.uid; 3] {
        return leftover(format!("its user ids are {}, {} and {}", uids.real, uids.effective, uids.saved));
    }
    let gids = getresgid().map_err(call("getresgid"))?;
    if [gids.real, gids.effective, gids.saved] != [identity.gid; 3] {
        return leftover(format!("its group ids are {}, {} and {}", gids.real, gids.effective, gids.saved));
    }
    let groups = getgroups().map_err(call("getgroups"))?;
    if sorted(&groups) != sorted(&identity.groups) {
        return leftover(format!("its supplementary groups are {groups:?}"));
    }
    if setuid(Uid::from_raw(0)).is_ok() {
        return leftover("it could become root again".to_owned());
    }
    let status = Status::read(user)?;
    for set in ["CapPrm", "CapEff"] {
        let capabilities = status.number(set, 16)?;
        if capabilities != 0 {
            return leftover(format!("it kept the capabilities {capabilities:#x} ({set})"));
        }
    }
    if status.number("NoNewPrivs", 10)? != 1 {
        return leftover("it may gain privileges by running another program".to_owned());
    }
    Ok(())
}

fn sorted(groups: &[Gid]) -> Vec<u32> {
    let mut ids: Vec<u32> = groups.iter().map(|group| group.as_raw()).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// What the kernel says about this process.
struct Status<'a> {
    user: &'a str,
    text: String,
}

impl Status<'_> {
    fn read(user: &str) -> Result<Status<'_>, Error> {
        let text = std::fs::read_to_string(STATUS_FILE)
            .map_err(|_| Error::Status { user: user.to_owned(), field: "anything" })?;
        Ok(Status { user, text })
    }

    fn number(&self, field: &'static str, radix: u32) -> Result<u64, Error> {
        self.text
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| *name == field)
            .and_then(|(_, value)| u64::from_str_radix(value.trim(), radix).ok())
            .ok_or_else(|| Error::Status { user: self.user.to_owned(), field })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_user_or_group_is_named_with_its_setting() {
        let error = Identity::resolve("no-such-user", None).unwrap_err().to_string();
        assert!(error.starts_with("USER=no-such-user: there is no such user"), "{error}");
        let error = Identity::resolve("nobody", Some("no-such-group")).unwrap_err().to_string();
        assert!(error.starts_with("GROUP=no-such-group: there is no such group"), "{error}");
        assert!(matches!(Identity::resolve("nobody\0", None), Err(Error::UnknownUser { .. } | Error::Lookup { .. })));
        assert!(matches!(Identity::resolve("", None), Err(Error::UnknownUser { .. })));
    }

    #[test]
    fn root_is_not_a_user_to_run_as() {
        for root in ["root", "0"] {
            assert!(matches!(Identity::resolve(root, None), Err(Error::UserIsRoot { .. })), "{root}");
            let error = Identity::resolve("nobody", Some(root)).unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("GROUP={root}: the daemon never has root's group as its own")),
                "{error}"
            );
        }
    }

    #[test]
    fn the_group_is_the_users_own_unless_set() {
        let nobody = User::from_name("nobody").unwrap().unwrap();
        let identity = Identity::resolve("nobody", None).unwrap();
        assert_eq!((identity.uid, identity.gid), (nobody.uid, nobody.gid));
        let identity = Identity::resolve("nobody", Some("daemon")).unwrap();
        assert_eq!(identity.gid, Group::from_name("daemon").unwrap().unwrap().gid);
        assert!(identity.groups.contains(&identity.gid));
        let (uid, gid) = (identity.uid.to_string(), identity.gid.to_string());
        assert_eq!(Identity::resolve(&uid, Some(&gid)).unwrap(), identity, "by their numbers");
    }

    #[test]
    fn a_process_with_threads_is_not_touched() {
        // The test harness has a thread besides this one's.
        let identity = Identity::resolve("nobody", None).unwrap();
        std::thread::scope(|scope| {
            let (end, ended) = std::sync::mpsc::channel::<()>();
            scope.spawn(move || ended.recv().ok());
            assert!(matches!(drop_to(&identity), Err(Error::Threads { threads: 2.., .. })));
            drop(end);
        });
    }

    #[test]
    fn the_limit_of_open_files_is_raised_to_the_hard_one() {
        let limit = raise_open_files().unwrap();
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap(), (limit, limit));
    }

    #[test]
    fn status_fields_are_found_by_their_whole_name() {
        let text = "Name:\tThreads\nThreads:\t12\nCapEff:\t000001ffffffffff\nNoNewPrivs:\t1\n".to_owned();
        let status = Status { user: "nobody", text };
        assert_eq!(status.number("Threads", 10).unwrap(), 12);
        assert_eq!(status.number("CapEff", 16).unwrap(), 0x1ff_ffff_ffff);
        assert!(matches!(status.number("Cap", 16), Err(Error::Status { field: "Cap", .. })));
    }
}
