//! Large work on what the database has answered. The tasks of the connections run on the same threads as the one that does it,
//! and must not wait for it.

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task;

/// So many items take less than a millisecond.
const FEW: usize = 1000;

/// Does some work of so many items. While many are worked on, this thread's other tasks go on, on another thread. A runtime of
/// one thread has no tasks that anybody waits for.
pub fn apart<T>(items: usize, work: impl FnOnce() -> T) -> T {
    let has_others =
        || Handle::try_current().is_ok_and(|runtime| runtime.runtime_flavor() == RuntimeFlavor::MultiThread);
    if items > FEW && has_others() { task::block_in_place(work) } else { work() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::time::Duration;
    use tokio::runtime::Builder;

    #[test]
    fn other_tasks_go_on_while_many_items_are_worked_on() {
        let runtime = Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let done = runtime.block_on(runtime.spawn(async {
            let (other, told) = mpsc::channel();
            // Of the only thread that there is for tasks.
            tokio::spawn(async move { other.send("done") });
            // That it comes does not hang on the time: without the other thread it never would.
            apart(FEW + 1, || told.recv_timeout(Duration::from_secs(60)))
        }));
        assert_eq!(done.unwrap(), Ok("done"));
    }

    #[test]
    fn a_runtime_of_one_thread_does_it_too() {
        let runtime = Builder::new_current_thread().build().unwrap();
        assert_eq!(runtime.block_on(async { apart(usize::MAX, || 7) }), 7);
        assert_eq!(apart(usize::MAX, || 7), 7, "and none at all");
    }
}
