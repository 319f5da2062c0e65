# An operator's own repository, by deploy/repository: dnf installs from it, and refuses what was altered on the way.

needs dnf
operators_repository

# On Debian, what the package requires of a RHEL is provided by an empty one.
stub=$results/stub
rpm --query --package --requires "$rpm" | grep -v '^rpmlib' | sed 's/^/Provides: /' > "$results/provides"
cat > "$results/stub.spec" << SPEC
Name: rhel-of-the-rig
Version: 1
Release: 1
Summary: What policyd-rate-guard requires
License: none
BuildArch: noarch
$(cat "$results/provides")
%description
An empty package.
%files
SPEC
rpmbuild --quiet -bb --define "_topdir $stub" "$results/stub.spec"
check "the .rpm is added" add_to_repository "$stub"/RPMS/noarch/*.rpm "$rpm"
check "the packages in it are signed" contains 'digests signatures OK' inside_sh \
    "rpm --import /srv/repository/policyd-rate-guard.asc; rpm --checksig /srv/repository/rpm/policyd-rate-guard-*.rpm"
inside install -D -m 644 /srv/repository/policyd-rate-guard.repo /etc/yum.repos.d/policyd-rate-guard.repo
dnf() { inside dnf --quiet --assumeyes --setopt=install_weak_deps=False "$@"; }
check "dnf installs from it" dnf install policyd-rate-guard
check "it runs" active $units

old_pid=$(main_pid)
newer=$results/policyd-rate-guard-1.0.0-99.$(uname -m).rpm
newer_rpm "$newer" > "$results/rpmbuild" 2>&1 || cat "$results/rpmbuild"
check "the next version is added" add_to_repository "$newer"
check "dnf upgrades to it" dnf --refresh upgrade policyd-rate-guard
check "it runs" eventually 10 runs_anew "$old_pid"
inside rpm --erase policyd-rate-guard

pooled=$repository/rpm/$(basename "$newer")
printf x | dd of="$pooled" bs=1 seek=20000 conv=notrunc status=none
check "an altered package is refused" fails dnf --refresh install policyd-rate-guard
check "nothing of it was installed" fails inside rpm --query policyd-rate-guard
echo >> "$repository/rpm/repodata/repomd.xml"
inside dnf --quiet clean all
# By itself dnf would go on with the other repositories.
check "an altered index is refused" contains 'Bad GPG signature' dnf --setopt=policyd-rate-guard.skip_if_unavailable=False makecache

inside rpm --erase rhel-of-the-rig
inside rpm --erase --allmatches gpg-pubkey
remove_repository
