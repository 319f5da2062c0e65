# deploy/ansible on a host that has Postfix and MariaDB: from an operator's repository to limited senders.

operators_repository
add_to_repository "$deb"
inside systemctl start mariadb.service
inside_sh 'apt-get clean'

play=$results/play.yml
cat > "$play" << PLAY
- hosts: all
  gather_facts: true
  roles:
    - role: policyd_rate_guard
      vars:
        policyd_rate_guard_repository: file:///srv/repository
        policyd_rate_guard_key: $repository/policyd-rate-guard.asc
        policyd_rate_guard_database: mariadb
        policyd_rate_guard_settings:
          DB_DRIVER: mysql
          DB_SOCKET: /run/mysqld/mysqld.sock
          DB_PASSWORD: "it's \\\\ a \"secret\""
          QUOTA: "{{ quota }}"
PLAY
# Its files in the rig are in a folder of its own, and here in the scenario's.
playbook() { # QUOTA
    ANSIBLE_ROLES_PATH=$project/deploy/ansible/roles ANSIBLE_NOCOLOR=1 ANSIBLE_HOME=$results/ansible \
        ANSIBLE_LOCAL_TEMP=$results/ansible ANSIBLE_REMOTE_TEMP=/tmp/ansible ANSIBLE_HOST_KEY_CHECKING=0 \
        "${ANSIBLE_PLAYBOOK:-ansible-playbook}" --inventory 'rig,' --extra-vars "quota=$1" \
        --extra-vars "{\"ansible_ssh_executable\": \"$rig/ssh\", \"ansible_ssh_transfer_method\": \"piped\"}" "$play" 2>&1 | tee "$results/play.log"
}
played() { playbook "$1" && grep -E "rig +: .*$2" "$results/play.log"; }

check "the play goes through, doctor included" played 3 'failed=0'
check "three recipients pass" accepted test01 3
check "the fourth does not" deferred test01 1
check "it is counted in MariaDB" contains test01@example.com inside mysql --batch --execute 'SELECT sender FROM `policyd-rate-guard`.ratelimits'
check "a second time nothing is changed" played 3 'changed=0 .*failed=0'
check "another quota is one change, and a restart" played 5 'changed=2 .*failed=0'
pid=$(main_pid)
check "a wrong setting stops the play" fails playbook many
check "the daemon runs on" prints "$pid" main_pid
check "no password was printed" fails grep -rF 'secret' "$results/play.log"

inside systemctl stop policyd-rate-guard.service
inside_sh 'rm -rf /tmp/ansible'
inside mysql --execute "DROP DATABASE \`policyd-rate-guard\`; DROP USER 'policyd-rate-guard'@'localhost'"
inside systemctl stop mariadb.service
remove_repository
