//! One message: what a request asks of it, what is known about it, and how that is kept in few bytes.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use crate::limiter::decision::Decision;
use crate::limiter::increase::Increase;
use crate::limiter::verdict::Verdict;

/// The most recipients of one message that are told apart. Later ones count each time they are asked about.
pub const MAX_RECIPIENTS: usize = 1000;

/// The hashes of an account, and of it and an instance, keyed at random: nobody outside can make two messages meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    pub account: u64,
    pub message: u64,
}

/// What a request asks to be charged for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// None for a request without an instance, which is never a repeat.
    pub key: Option<Key>,
    pub what: What,
    /// The message's size, where it is known for certain.
    pub bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// RCPT: the hash of one recipient.
    Recipient(u64),
    /// DATA, END-OF-MESSAGE: all recipients.
    Recipients(u32),
}

/// A message as it is stored.
#[derive(Debug)]
pub enum Stored {
    /// Most messages.
    Passed(Passed),
    Other(Box<Message>),
}

/// A message that was asked about as a whole, and went through with nothing to be said: all that [`Message`] would tell.
#[derive(Debug, Clone, Copy)]
pub struct Passed {
    recipients: u32,
    bytes: u64,
    used: u64,
    quota: u32,
    from_memory: bool,
    at: u32,
}

/// What is known about one message.
#[derive(Debug, Clone, Default)]
pub struct Message {
    /// All that was asked for, whatever the answer.
    pub asked: Increase,
    /// What was let through.
    pub through: Increase,
    /// None unless it was asked about at RCPT.
    pub at_rcpt: Option<Box<AtRcpt>>,
    /// The last answer that let something through.
    pub passed: Option<Verdict>,
    /// The last answer that did not.
    pub refused: Option<Verdict>,
    /// When it was last asked about, in seconds. Counted from [`super::KEPT_FOR`] before the start: a daemon before this one may have
    /// been asked.
    pub at: u32,
}

/// The recipients of one message, as they came at RCPT.
#[derive(Debug, Clone, Default)]
pub struct AtRcpt {
    /// By their hashes, and whether each was let through.
    pub told: HashMap<u64, bool>,
    /// How many came after there were too many to tell apart.
    pub untold: u32,
    /// How many were let through in all.
    pub through: u32,
}

impl Stored {
    pub fn message(&self) -> Cow<'_, Message> {
        match self {
            Stored::Passed(passed) => Cow::Owned(Message::from(*passed)),
            Stored::Other(message) => Cow::Borrowed(message),
        }
    }

    pub fn at(&self) -> u32 {
        match self {
            Stored::Passed(passed) => passed.at,
            Stored::Other(message) => message.at,
        }
    }
}

impl From<Message> for Stored {
    fn from(message: Message) -> Stored {
        message.packed().map_or_else(|| Stored::Other(Box::new(message)), Stored::Passed)
    }
}

impl From<Stored> for Message {
    fn from(stored: Stored) -> Message {
        match stored {
            Stored::Passed(passed) => Message::from(passed),
            Stored::Other(message) => *message,
        }
    }
}

impl From<Passed> for Message {
    fn from(passed: Passed) -> Message {
        let Passed { recipients, bytes, used, quota, from_memory, at } = passed;
        let amount = Increase { messages: 1, recipients, bytes };
        let decision = Arc::new(Decision::accepted(used, quota));
        let verdict = if from_memory { Verdict::FromMemory(decision) } else { Verdict::Counted(decision) };
        Message { asked: amount, through: amount, at_rcpt: None, passed: Some(verdict), refused: None, at }
    }
}

impl Message {
    /// The message in few bytes, if these say all of it.
    fn packed(&self) -> Option<Passed> {
        let (decision, from_memory) = match self.passed.as_ref()? {
            Verdict::Counted(decision) => (decision, false),
            Verdict::FromMemory(decision) => (decision, true),
            Verdict::DryRun(_) | Verdict::NotBlocked | Verdict::InDoubt(_) => return None,
        };
        let Decision { used, quota, .. } = **decision;
        let says_all = self.asked == self.through
            && self.at_rcpt.is_none()
            && self.refused.is_none()
            && **decision == Decision::accepted(used, quota);
        let Increase { recipients, bytes, .. } = self.through;
        says_all.then_some(Passed { recipients, bytes, used, quota, from_memory, at: self.at })
    }

    /// Notes a request and its answer. Returns how many recipients more are told apart.
    pub fn note(&mut self, asked: &Asked, verdict: &Verdict, passes: bool, at: u32) -> usize {
        let (would_be_asked, would_pass) = (self.would_be_asked(asked), self.would_pass(asked));
        self.asked = self.asked.max(would_be_asked);
        if passes {
            self.through = self.through.max(would_pass);
        }
        let answered = if passes { &mut self.passed } else { &mut self.refused };
        *answered = Some(verdict.clone());
        self.at = at;
        match asked.what {
            What::Recipient(hash) => self.at_rcpt.get_or_insert_default().note(hash, passes),
            What::Recipients(_) => 0,
        }
    }

    /// All that was asked for, with what a request asks for.
    pub fn would_be_asked(&self, asked: &Asked) -> Increase {
        self.with(asked, AtRcpt::would_be_asked)
    }

    /// All that has gone through, with what a request asks for.
    pub fn would_pass(&self, asked: &Asked) -> Increase {
        self.with(asked, AtRcpt::would_pass)
    }

    /// Whether it was refused as a whole, by the quota.
    pub fn was_over_quota(&self) -> bool {
        self.at_rcpt.is_none() && self.refused.as_ref().is_some_and(Verdict::is_over_quota)
    }

    /// DATA and END-OF-MESSAGE say themselves how many recipients there are; at RCPT `recipients` counts them.
    fn with(&self, asked: &Asked, recipients: impl Fn(&AtRcpt, u64) -> u32) -> Increase {
        let recipients = match asked.what {
            What::Recipients(all) => all,
            What::Recipient(hash) => self.at_rcpt.as_ref().map_or(1, |at_rcpt| recipients(at_rcpt, hash)),
        };
        Increase { messages: 1, recipients, bytes: asked.bytes }
    }
}

impl AtRcpt {
    /// How many recipients were asked for, with this one.
    fn would_be_asked(&self, hash: u64) -> u32 {
        let told = u32::try_from(self.told.len()).unwrap_or(u32::MAX);
        told.saturating_add(self.untold).saturating_add(u32::from(!self.told.contains_key(&hash)))
    }

    /// Returns how many recipients have passed if this one passes. A refused recipient does not count.
    fn would_pass(&self, hash: u64) -> u32 {
        let passed = self.told.get(&hash).copied().unwrap_or(false);
        self.through.saturating_add(u32::from(!passed))
    }

    /// Notes a recipient. Returns how many more are told apart.
    fn note(&mut self, hash: u64, passes: bool) -> usize {
        let before = self.told.len();
        if self.would_pass(hash) > self.through && passes {
            self.through = self.through.saturating_add(1);
        }
        if let Some(passed) = self.told.get_mut(&hash) {
            *passed |= passes;
        } else if before < MAX_RECIPIENTS {
            self.told.insert(hash, passes);
        } else {
            self.untold = self.untold.saturating_add(1);
        }
        self.told.len() - before
    }
}
