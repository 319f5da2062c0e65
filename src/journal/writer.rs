//! The file from the committer's side: on a thread for what blocks, and never waited for longer than a limit.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::file::JournalFile;

/// A journal's file, on which one thing at a time is done.
#[derive(Debug)]
pub struct Writer {
    file: Arc<JournalFile>,
    /// What was begun last: it may take longer than anybody waits for it.
    running: Option<JoinHandle<()>>,
}

impl Writer {
    pub fn new(file: JournalFile) -> Writer {
        Writer { file: Arc::new(file), running: None }
    }

    /// Does something with the file, at the most for as long as `limit`.
    ///
    /// # Errors
    /// In words: what the system says, or that the disk does not answer. Then nothing else is begun before it does.
    pub async fn run<T: Send + 'static>(
        &mut self,
        limit: Duration,
        work: impl FnOnce(&JournalFile) -> io::Result<T> + Send + 'static,
    ) -> Result<T, String> {
        let place = |error: &str| format!("{}: {error}", self.file.path().display());
        if self.running.as_ref().is_some_and(|running| !running.is_finished()) {
            return Err(place("the disk does not answer"));
        }
        let (done, result) = oneshot::channel();
        let file = self.file.clone();
        let mut running = tokio::task::spawn_blocking(move || {
            // Nobody may wait for it any more.
            let _ = done.send(work(&file));
        });
        if tokio::time::timeout(limit, &mut running).await.is_err() {
            self.running = Some(running);
            return Err(place(&format!("the disk does not answer within {} ms", limit.as_millis())));
        }
        match result.await {
            Ok(result) => result.map_err(|error| place(&error.to_string())),
            Err(_) => Err(place("the thread that works on it ended")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn a_disk_that_does_not_answer_is_waited_for_no_longer_than_allowed_and_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let (file, _) = JournalFile::open(directory.path(), 1, |_| {}).unwrap();
        let mut writer = Writer::new(file);
        assert_eq!(writer.run(Duration::from_secs(60), |_| Ok(5)).await, Ok(5));
        let (answer, answered) = mpsc::channel();
        let hangs = move |_: &JournalFile| answered.recv().map_err(io::Error::other);
        let error = writer.run(Duration::from_millis(1), hangs).await.unwrap_err();
        assert!(error.ends_with("the disk does not answer within 1 ms"), "{error}");
        let error = writer.run(Duration::from_secs(60), |_| Ok(())).await.unwrap_err();
        assert!(error.ends_with("the disk does not answer"), "{error}");
        answer.send(()).unwrap();
        while writer.run(Duration::from_secs(60), |_| Ok(())).await.is_err() {
            tokio::task::yield_now().await;
        }
    }
}
