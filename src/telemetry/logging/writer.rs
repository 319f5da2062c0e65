//! The thread that writes one sink, so that a sink that hangs holds up nothing else.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use log::Level;

use super::line::Line;
use super::queue::Queue;

/// How long lines gather after some were written: at 50,000 lines a second some 250 share one write.
const GATHER: Duration = Duration::from_millis(5);

/// Somewhere lines go. Called by its own thread only.
pub(super) trait Sink: Send {
    /// Writes the lines in order. Returns how many, at the end of them, it had to give up.
    fn write(&mut self, lines: &[Arc<Line>], queue: &Queue) -> usize;

    /// Opens the file or the connection anew.
    fn reopen(&mut self) {}
}

/// How a sink tells of its own trouble: on the other sinks.
pub(super) type Tell = Box<dyn Fn(Level, String) + Send>;

/// Starts the thread; it ends when the queue is closed.
pub(super) fn spawn(name: &str, queue: Arc<Queue>, mut sink: impl Sink + 'static) -> io::Result<()> {
    std::thread::Builder::new().name(format!("log-{name}")).spawn(move || run(&queue, &mut sink)).map(drop)
}

fn run(queue: &Queue, sink: &mut impl Sink) {
    while let Some(work) = queue.take() {
        if work.reopen {
            sink.reopen();
        }
        let mut lines = work.lines;
        if work.lost > 0 {
            lines.push(Arc::new(lost_line(work.lost)));
        }
        let unwritten = sink.write(&lines, queue) as u64;
        if unwritten > 0 {
            // The last line, which told of the loss, is among them.
            queue.lose(unwritten - u64::from(work.lost > 0), work.lost);
        }
        queue.gather(GATHER);
    }
}

fn lost_line(lost: u64) -> Line {
    let text = format_args!("{lost} log lines were lost here: they came faster than they could be written");
    Line::new(Level::Warn, text)
}

/// Writes whole lines to a stream, and knows after an error what has reached it.
#[derive(Debug)]
pub(super) struct LineStream<W> {
    pub stream: W,
    /// The last write ended within a line.
    torn: bool,
}

impl<W: Write> LineStream<W> {
    pub fn new(stream: W) -> LineStream<W> {
        LineStream { stream, torn: false }
    }

    /// Writes `text`, lines with their newlines, in one go if the stream takes it. The error has the number of lines
    /// that are not in the stream as a whole.
    pub fn write(&mut self, mut text: String) -> Result<(), (usize, io::Error)> {
        let mending = self.torn;
        if mending {
            text.insert(0, '\n');
        }
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            let problem = match self.stream.write(rest) {
                Ok(0) => io::ErrorKind::WriteZero.into(),
                Ok(written) => {
                    self.torn = rest.get(..written).is_some_and(|done| !done.ends_with(b"\n"));
                    rest = rest.get(written..).unwrap_or_default();
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => error,
            };
            let missing = rest.iter().filter(|&&byte| byte == b'\n').count();
            // The newline that would have ended the torn line was counted with it.
            let counted = usize::from(mending && rest.len() == text.len());
            return Err((missing - counted, problem));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes a few bytes at a time, and none beyond a limit.
    struct Narrow {
        taken: Vec<u8>,
        limit: usize,
    }

    impl Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let room = bytes.len().min(7).min(self.limit - self.taken.len());
            if room == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.taken.extend_from_slice(&bytes[..room]);
            Ok(room)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_torn_line_is_counted_and_ended_before_the_next() {
        let mut stream = LineStream::new(Narrow { taken: Vec::new(), limit: 10 });
        assert_eq!(stream.write("first\nsecond\nthird\n".to_owned()).unwrap_err().0, 2);
        assert_eq!(stream.write("fourth\n".to_owned()).unwrap_err().0, 1);
        stream.stream.limit = 100;
        stream.write("fifth\n".to_owned()).unwrap();
        assert_eq!(String::from_utf8(stream.stream.taken).unwrap(), "first\nseco\nfifth\n");
    }

    /// Gives up all but the first line of each batch as long as it is broken.
    struct Broken {
        broken: bool,
        written: Vec<String>,
    }

    impl Sink for Broken {
        fn write(&mut self, lines: &[Arc<Line>], queue: &Queue) -> usize {
            if lines.iter().any(|line| line.text == "end") {
                queue.close();
            }
            if self.broken {
                self.broken = false;
                return lines.len();
            }
            self.written.extend(lines.iter().map(|line| line.text.clone()));
            0
        }
    }

    #[test]
    fn lines_that_a_sink_gave_up_are_told_with_the_next_that_it_takes() {
        let queue = Queue::new(10_000);
        let push = |text: &str| queue.push(Arc::new(Line::new(Level::Info, format_args!("{text}"))));
        queue.lose(5, 0);
        push("a");
        push("b");
        let mut sink = Broken { broken: true, written: Vec::new() };
        std::thread::scope(|scope| {
            scope.spawn(|| run(&queue, &mut sink));
            assert!(queue.flush(std::time::Instant::now() + Duration::from_secs(30)));
            push("end");
        });
        assert_eq!(sink.written.len(), 2);
        assert_eq!(sink.written[0], "end");
        assert!(sink.written[1].starts_with("7 log lines were lost"), "{}", sink.written[1]);
    }
}
