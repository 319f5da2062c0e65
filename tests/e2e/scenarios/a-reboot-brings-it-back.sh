# After the machine has been down, the first mail is limited as the last one was.

install_deb
let_postfix_ask
set_to QUOTA=3
check "a mail of three passes" accepted test01 3
check "the machine goes down" "$rig/stop"
check "it comes up with every unit well" contains 'running: ' "$rig/boot" "$RIG_ROOT"
check "socket, service and timer are active" active $units
mark_log
check "the next mail is deferred" deferred test01 1
check "another sender's passes" accepted test02 1
check "both were answered" prints 0 unanswered
