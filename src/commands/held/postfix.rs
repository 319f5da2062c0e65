//! postqueue(1) and postsuper(1).
//!
//! postsuper(1) is root's. It is started while this process still is, reads ids from a pipe and acts on each at once; by the time
//! that one is written, this process is USER and cannot start anything as root any more. What it prints of each id says what was
//! really done.

use std::collections::HashSet;
use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::process::{Child, ChildStderr, ChildStdin, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::commands::programs;
use crate::commands::table::clean;
use crate::exit::{Exit, Failed};
use crate::protocol::queue_id::QueueId;
use crate::queue::listing::{Entry, Listing};
use crate::system::privileges;

/// The most messages that are looked at.
const MAX_ENTRIES: usize = 1_000_000;
/// The longest line that is read of what a program says, in bytes.
const MAX_LINE: u64 = 4096;
/// The most bytes that are read of what a program says when it fails.
const MAX_SAID: u64 = 4096;
/// How often progress is shown.
const PROGRESS: Duration = Duration::from_millis(100);

fn cannot(name: &str, error: &io::Error) -> Failed {
    let advice = match error.kind() {
        io::ErrorKind::NotFound => "; run this on the mail server, with Postfix's commands in PATH",
        _ => "",
    };
    Failed::new(Exit::OsError, format_args!("cannot run {name}: {error}{advice}"))
}

/// `postqueue -j`, which is running.
pub struct Postqueue(Child);

impl Postqueue {
    /// Starts it. Any user may; USER alone may not once it cannot gain privileges any more.
    pub fn begin() -> Result<Postqueue, Failed> {
        let mut command = Command::new(programs::find("postqueue"));
        command.arg("-j").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().map(Postqueue).map_err(|error| cannot("postqueue", &error))
    }

    /// Reads it to its end, and returns the entries that are wanted. Says on standard error how many could not be read.
    pub fn entries(mut self, is_wanted: impl Fn(&Entry) -> bool) -> Result<Vec<Entry>, Failed> {
        let Some(output) = self.0.stdout.take() else {
            return Err(Failed::new(Exit::Software, "postqueue has no output"));
        };
        let mut listing = Listing::new(BufReader::new(output));
        let mut entries = Vec::new();
        let mut read = || -> Result<(), Failed> {
            for entry in listing.by_ref() {
                entries.extend(Some(entry.map_err(not_a_listing)?).filter(&is_wanted));
                if entries.len() > MAX_ENTRIES {
                    return Err(Failed::new(
                        Exit::Unavailable,
                        format_args!("there are more than {MAX_ENTRIES} messages, more than this command looks at"),
                    ));
                }
            }
            Ok(())
        };
        let read = read();
        let unreadable = listing.unreadable();
        // Closes its output, so that it ends in any case.
        drop(listing);
        let said = said(self.0.stderr.take());
        let status = self.0.wait().map_err(|error| cannot("postqueue", &error))?;
        match read {
            Ok(()) if status.success() => {
                if unreadable > 0 {
                    eprintln!(
                        "policyd-rate-guard: {unreadable} messages of the queue are left out, since `postqueue -j` lists them with \
                         more recipients than are read here or without a queue id; `postqueue -p` shows them"
                    );
                }
                Ok(entries)
            }
            // What it says itself explains more.
            Ok(()) | Err(_) if !said.is_empty() => {
                Err(Failed::new(Exit::Unavailable, format_args!("postqueue -j failed ({status}): {}", clean(&said))))
            }
            Ok(()) => Err(Failed::new(Exit::Unavailable, format_args!("postqueue -j failed ({status})"))),
            Err(failed) => Err(failed),
        }
    }
}

fn not_a_listing(error: crate::queue::listing::ListingError) -> Failed {
    Failed::new(Exit::Unavailable, format_args!("{error}; is this Postfix 3.1 or newer?"))
}

/// What a program has said, on one line.
fn said(stream: Option<ChildStderr>) -> String {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        // Whatever of it can be read.
        let _ = stream.take(MAX_SAID).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).lines().map(str::trim).collect::<Vec<_>>().join("; ")
}

/// What postsuper(1) is to do with each id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// What is incoming, active or deferred.
    Hold,
    Release,
    Delete,
}

impl Verb {
    /// The options. Each looks for the id in the queue that the mail is in, and in no other.
    fn arguments(self) -> &'static [&'static str] {
        match self {
            Verb::Hold => &["-h", "-"],
            Verb::Release => &["-H", "-"],
            Verb::Delete => &["-d", "-", "hold"],
        }
    }

    /// What it prints of an id when it is done (its src/postsuper/postsuper.c).
    fn confirmation(self) -> &'static str {
        match self {
            Verb::Hold => "placed on hold",
            Verb::Release => "released from hold",
            Verb::Delete => "removed",
        }
    }

    /// What is done, for people.
    pub fn done(self) -> &'static str {
        match self {
            Verb::Hold => "put on hold",
            Verb::Release => "released",
            Verb::Delete => "deleted",
        }
    }
}

/// postsuper(1), which is running and waits for ids.
pub struct Postsuper {
    child: Child,
    input: ChildStdin,
    output: ChildStderr,
    verb: Verb,
}

impl Postsuper {
    /// Starts it, as root.
    pub fn begin(verb: Verb) -> Result<Postsuper, Failed> {
        if !privileges::is_root() {
            return Err(Failed::new(
                Exit::OsError,
                "postsuper(1), which puts mail on hold, releases and deletes it, is root's: run this as root",
            ));
        }
        let mut command = Command::new(programs::find("postsuper"));
        command.args(verb.arguments()).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| cannot("postsuper", &error))?;
        match (child.stdin.take(), child.stderr.take()) {
            (Some(input), Some(output)) => Ok(Postsuper { child, input, output, verb }),
            _ => Err(Failed::new(Exit::Software, "postsuper has no input")),
        }
    }

    /// Begins to read what it says. On a terminal it shows progress if `total` says how many ids are to come. To be called as USER,
    /// since there is a second thread from here on.
    pub fn work(self, total: Option<usize>) -> Result<Working, Failed> {
        let Postsuper { child, input, output, verb } = self;
        let listen = move || listen(output, verb, total);
        let listener = std::thread::Builder::new().spawn(listen).map_err(|error| cannot("postsuper", &error))?;
        Ok(Working { child, input, listener })
    }
}

/// postsuper(1) at work.
pub struct Working {
    child: Child,
    input: ChildStdin,
    listener: JoinHandle<Heard>,
}

/// What postsuper(1) has said.
#[derive(Default)]
struct Heard {
    confirmed: HashSet<QueueId>,
    complaints: String,
}

/// What was done.
pub struct Done {
    pub ids: HashSet<QueueId>,
    /// Why it did not come to its end.
    pub failure: Option<Failed>,
}

impl Working {
    /// Hands one id over. False if postsuper has ended; [`Working::end`] knows why.
    pub fn act_on(&mut self, id: &QueueId) -> bool {
        self.input.write_all(format!("{id}\n").as_bytes()).is_ok()
    }

    /// Waits until all ids are done.
    pub fn end(mut self) -> Done {
        drop(self.input);
        let heard = self.listener.join().unwrap_or_default();
        let failure = match self.child.wait() {
            Ok(status) if status.success() => None,
            Ok(status) => Some(format!("postsuper failed ({status}): {}", clean(&heard.complaints))),
            Err(error) => Some(format!("waiting for postsuper: {error}")),
        };
        Done { ids: heard.confirmed, failure: failure.map(|failure| Failed::new(Exit::Unavailable, failure)) }
    }
}

fn listen(output: ChildStderr, verb: Verb, total: Option<usize>) -> Heard {
    let mut output = BufReader::new(output);
    let mut heard = Heard::default();
    let mut line = Vec::new();
    let total = total.filter(|_| io::stderr().is_terminal());
    let mut shown = Instant::now();
    loop {
        line.clear();
        // What cannot be read is as good as the end: postsuper's status says what became of it.
        if output.by_ref().take(MAX_LINE).read_until(b'\n', &mut line).unwrap_or(0) == 0 {
            break;
        }
        let text = String::from_utf8_lossy(&line);
        match confirmed(&text, verb.confirmation()) {
            Some(id) => {
                heard.confirmed.insert(id);
            }
            None if text.contains("warning:") || text.contains("fatal:") || text.contains("error:") => {
                let room = MAX_LINE as usize;
                if heard.complaints.len() < room {
                    heard.complaints.push_str(text.trim_end());
                    heard.complaints.push(' ');
                }
            }
            None => {}
        }
        if let Some(total) = total
            && shown.elapsed() >= PROGRESS
        {
            eprint!("\r{} of {total} {}", heard.confirmed.len(), verb.done());
            shown = Instant::now();
        }
    }
    if let Some(total) = total {
        eprintln!("\r{} of {total} {}", heard.confirmed.len(), verb.done());
    }
    heard
}

/// Returns the id of a line such as `postsuper: 4F9D195432C: released from hold`.
fn confirmed(line: &str, confirmation: &str) -> Option<QueueId> {
    let (before, after) = line.trim_end().rsplit_once(": ")?;
    let id = before.rsplit(' ').next()?;
    QueueId::parse(id).filter(|_| after == confirmation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_about_an_id_confirms_it() {
        let id = QueueId::parse("4F9D195432C");
        for (line, verb, expected) in [
            ("postsuper: 4F9D195432C: released from hold\n", Verb::Release, id.clone()),
            ("postsuper: 4F9D195432C: removed\n", Verb::Delete, id.clone()),
            ("postsuper: 4F9D195432C: removed\n", Verb::Release, None),
            ("postsuper: Released from hold: 3 messages\n", Verb::Release, None),
            ("postsuper: warning: invalid mail queue id: x\n", Verb::Release, None),
            ("postsuper: ALL: removed\n", Verb::Delete, None),
            ("removed", Verb::Delete, None),
        ] {
            assert_eq!(confirmed(line, verb.confirmation()), expected, "{line}");
        }
    }
}
