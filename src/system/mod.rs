//! The only place that talks to the kernel and to systemd.
//!
//! # The start, in order
//!
//! `serve` follows these steps, and each depends on those before it. Up to 5 the process has one thread; nothing reads a
//! byte from a client before 8. First of all [`signals::hold`] has SIGHUP and SIGUSR1 wait, which are heard from 7 on.
//!
//! 1. Read the settings, as the user that started the program: the file may be readable by root and USER's group only.
//! 2. [`privileges::Identity::for_root`] looks up USER and GROUP. A wrong name ends the start before anything is done.
//! 3. [`sockets::listen`] takes the sockets that systemd handed over and binds the others. As root it makes the directory of
//!    a unix socket and gives both to USER. It is all that is ever done as root.
//! 4. [`privileges::raise_open_files`]: a sandbox may forbid it, and the limit of the unit then holds. There is no log yet;
//!    the line that says that the daemon is ready has the number of connections, and what is listened on.
//! 5. [`privileges::withdraw`]: no root from here on; new files are not readable by all, and no other process can read the memory.
//! 6. Open the log files, as USER: root would follow a link planted in USER's log directory.
//! 7. Start the runtime, and open the database, as USER: root would leave files that the daemon cannot write.
//! 8. Accept; [`systemd::ServiceManager::ready`], also when the database is away.
//!
//! Other commands that ask a database or open a log do 1, then [`privileges::become_user`], which is 2 and 5.
//!
//! # The end
//!
//! [`systemd::ServiceManager::stopping`]; [`sockets::SocketPath::remove`] for each socket made here, while it still listens; accept what
//! waits in the backlogs; close the listeners; answer; end. A client that comes later is refused at once, and Postfix asks again after a
//! second; at a socket that was handed over it waits for the next daemon. A daemon that has no place for one more connection
//! leaves the backlog be, and its listeners open, until a place is free or the last connections are cut off.

/// The system's name; empty if it has none. Of a name that is no UTF-8, what can be shown of it.
pub fn host_name() -> String {
    nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

pub mod privileges;
pub mod signals;
pub mod sockets;
pub mod systemd;
