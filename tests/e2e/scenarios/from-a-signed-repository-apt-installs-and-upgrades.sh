# An operator's own repository, by deploy/repository: apt installs from it, and refuses what was altered on the way.

operators_repository

# The version before, as deploy/repository would have had it then.
older=$results/policyd-rate-guard_0.9.0-1_$(dpkg --print-architecture).deb
repack_deb 0.9.0-1 "$older"

check "a repository is made of the version before" add_to_repository "$older"
inside install -D -m 644 /srv/repository/policyd-rate-guard.asc /etc/apt/keyrings/policyd-rate-guard.asc
inside install -m 644 /srv/repository/policyd-rate-guard.sources /etc/apt/sources.list.d/policyd-rate-guard.sources
check "apt installs from it" "$rig/apt" install -y policyd-rate-guard
version() { inside dpkg-query --showformat '${Version}' --show policyd-rate-guard; }
check "the version before" prints 0.9.0-1 version
check "it runs" active $units
old_pid=$(main_pid)

check "this version is added to it" add_to_repository "$deb"
check "once more makes no difference" add_to_repository "$deb"
check "the version before is still there" test -f "$repository/apt/pool/$(basename "$older")"
cp "$older" "$results/$(basename "$deb")"
check "another package under a known name is refused" contains 'raise the package' add_to_repository "$results/$(basename "$deb")"
check "apt upgrades from it" "$rig/apt" install -y --only-upgrade policyd-rate-guard
check "to this version" prints "$(dpkg-deb --field "$deb" Version)" version
check "which runs" eventually 10 runs_anew "$old_pid"

# What lies between the operator and the host may alter anything but the signature.
fetch() { "$rig/apt" install -y --reinstall policyd-rate-guard; }
pooled=$repository/apt/pool/$(basename "$deb")
inside_sh 'apt-get clean'
printf x | dd of="$pooled" bs=1 seek=1000 conv=notrunc status=none
check "an altered package is refused" fails fetch
cp "$deb" "$pooled"
packages=$(echo "$repository"/apt/dists/stable/main/binary-*/Packages)
cp "$packages" "$results/Packages"
gzip -9n < /dev/null > "$packages.gz"
sed -i 's/^Version: 1/Version: 9/' "$packages"
# As a host that sees the repository for the first time.
refresh() {
    inside_sh 'rm -rf /tmp/lists; mkdir -p /tmp/lists/partial
        apt-get -o Dir::State::Lists=/tmp/lists -o Dir::Etc::sourcelist=/etc/apt/sources.list.d/policyd-rate-guard.sources \
            -o Dir::Etc::sourceparts=- -o APT::Update::Error-Mode=any update'
}
check "an altered index is refused" fails refresh
cp "$results/Packages" "$packages"
gzip -9n < "$packages" > "$packages.gz"
check "as it was it is taken" refresh
gpg --batch --quiet --passphrase '' --quick-gen-key 'Somebody else <else@example.com>' rsa3072 sign never
gpg --batch --yes --quiet --local-user else@example.com --clearsign --output "$repository/apt/dists/stable/InRelease" "$repository/apt/dists/stable/Release"
check "another's signature is refused" fails refresh
inside rm /etc/apt/sources.list.d/policyd-rate-guard.sources
inside dpkg --purge policyd-rate-guard
remove_repository
