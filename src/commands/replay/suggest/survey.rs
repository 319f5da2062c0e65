//! Work on all accounts, on all processors.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::commands::replay::bar::Bar;
use crate::replay::suggest::streams::Stream;

/// Between two looks at how far it is.
const LOOKED_EVERY: Duration = Duration::from_millis(20);

/// Returns what `work` makes of each stream and its place, in their order. Shows the progress as `doing`.
pub fn survey<T: Send>(doing: &str, streams: &[Stream], work: impl Fn(u32, &Stream) -> T + Sync) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut made = Vec::new();
        loop {
            let place = next.fetch_add(1, Ordering::Relaxed);
            let Some(stream) = streams.get(place) else { return made };
            made.push((place, work(u32::try_from(place).unwrap_or(u32::MAX), stream)));
        }
    };
    let mut made = thread::scope(|scope| {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        let workers: Vec<_> = (0..processors).map(|_| scope.spawn(worker)).collect();
        let (mut bar, whole) = (Bar::new(), streams.len());
        while !workers.iter().all(|worker| worker.is_finished()) {
            let done = next.load(Ordering::Relaxed).min(whole);
            bar.show(done as u64, Some(whole as u64), || format!("{doing}: {done} of {whole} senders"));
            thread::sleep(LOOKED_EVERY);
        }
        bar.clear();
        let made =
            workers.into_iter().map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        made.flatten().collect::<Vec<_>>()
    });
    made.sort_unstable_by_key(|(place, _)| *place);
    made.into_iter().map(|(_, made)| made).collect()
}
