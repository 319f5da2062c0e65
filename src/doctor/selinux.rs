//! Whether SELinux lets smtpd reach the packaged socket. Root's commands are not confined, so that asking it proves nothing: the
//! type of the socket's directory tells whether our policy module is loaded and applied.

use std::path::Path;

use super::Finding;

/// The directory's type, as rpm/selinux/ defines it.
const TYPE: &str = "policyd_rate_guard_spool_t";

/// Judges the directory of the packaged socket. `enforce` is what /sys/fs/selinux/enforce holds, `context` the directory's, as
/// stat(1) prints it.
pub fn judge(enforce: &str, directory: &Path, context: &str) -> Option<Finding> {
    if enforce.trim() != "1" {
        return None;
    }
    // user:role:type:level
    let found = context.trim().split(':').nth(2).filter(|found| *found != TYPE)?;
    let directory = directory.display();
    Some(Finding::problem(
        "selinux",
        format!("{directory} has the SELinux type {found}, not {TYPE}"),
        "SELinux is enforced, and keeps smtpd from the socket: Postfix gets no answer, and nothing is limited.",
        format!(
            "semodule -i /usr/share/selinux/packages/policyd_rate_guard.pp && restorecon -R {directory}; see docs/selinux.md"
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_type_is_that_of_the_module() {
        for source in [
            include_str!("../../rpm/selinux/policyd_rate_guard.te"),
            include_str!("../../rpm/selinux/policyd_rate_guard.fc"),
        ] {
            assert!(source.contains(TYPE));
        }
    }

    #[test]
    fn another_type_is_a_finding_where_selinux_is_enforced() {
        let judge = |enforce, context| judge(enforce, Path::new("/var/spool/postfix/rateguard"), context);
        let other = "system_u:object_r:postfix_spool_t:s0\n";
        let finding = judge("1", other).unwrap();
        assert!(finding.what.contains("postfix_spool_t") && finding.mend.contains("semodule -i"), "{finding:?}");
        assert_eq!(judge("0", other), None, "permissive");
        assert_eq!(judge("1", "system_u:object_r:policyd_rate_guard_spool_t:s0\n"), None);
        assert_eq!(judge("1", "?\n"), None, "a file system without labels");
    }
}
