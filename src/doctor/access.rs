//! Who may connect to a unix socket, by the permissions of the socket and its directories.

/// Owner, group and mode of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permissions {
    pub uid: u32,
    pub gid: u32,
    pub mode: u32,
}

impl Permissions {
    /// Whether a process may do what `right` means for others (4 read, 2 write, 1 enter). The first of owner, group and
    /// others that fits decides, as in the kernel.
    fn grant(self, user: User, right: u32) -> bool {
        let shift = match self {
            Permissions { uid, .. } if uid == user.uid => 6,
            Permissions { gid, .. } if gid == user.gid => 3,
            _ => 0,
        };
        self.mode >> shift & right == right
    }
}

/// A process without root's rights. Postfix's have no supplementary groups, whatever /etc/group says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
}

/// Whether `user` may connect to `socket` in these directories.
pub fn may_connect(user: User, socket: Permissions, directories: impl IntoIterator<Item = Permissions>) -> bool {
    socket.grant(user, 2) && directories.into_iter().all(|directory| directory.grant(user, 1))
}

/// A user that is neither the owner nor in the group: the number means "none" to the kernel.
pub const ANYBODY: User = User { uid: u32::MAX, gid: u32::MAX };

#[cfg(test)]
mod tests {
    use super::*;

    const POSTFIX: User = User { uid: 101, gid: 102 };

    fn permissions(uid: u32, gid: u32, mode: u32) -> Permissions {
        Permissions { uid, gid, mode }
    }

    #[test]
    fn anybody_is_neither_owner_nor_group() {
        let enter = permissions(0, 0, 0o711);
        for (mode, allowed) in [(0o660, false), (0o666, true), (0o602, true)] {
            assert_eq!(may_connect(ANYBODY, permissions(0, 0, mode), [enter]), allowed, "{mode:o}");
            assert!(!may_connect(ANYBODY, permissions(0, 0, mode), [enter, permissions(0, 0, 0o770)]));
        }
    }

    #[test]
    fn the_first_that_fits_decides() {
        let open = permissions(0, 0, 0o755);
        for (socket, allowed) in [
            (permissions(101, 102, 0o660), true),
            (permissions(7, 102, 0o660), true),
            (permissions(7, 7, 0o660), false),
            (permissions(7, 7, 0o666), true),
            (permissions(7, 102, 0o606), false),
            (permissions(101, 7, 0o066), false),
        ] {
            assert_eq!(may_connect(POSTFIX, socket, [open, open]), allowed, "{socket:?}");
            assert!(!may_connect(POSTFIX, socket, [open, permissions(0, 0, 0o700)]));
        }
    }
}
