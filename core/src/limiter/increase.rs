//! An amount of mail, and how two are compared.

/// So much mail.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Increase {
    pub messages: u32,
    pub recipients: u32,
    pub bytes: u64,
}

impl Increase {
    pub fn is_nothing(self) -> bool {
        self == Increase::default()
    }

    /// Whether it is mail, and not only the content of mail that was asked about before.
    pub fn is_mail(self) -> bool {
        self.messages > 0 || self.recipients > 0
    }

    /// What this is more than another.
    pub fn beyond(self, other: Increase) -> Increase {
        Increase {
            messages: self.messages.saturating_sub(other.messages),
            recipients: self.recipients.saturating_sub(other.recipients),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }

    /// Of each measure the greater.
    pub fn max(self, other: Increase) -> Increase {
        Increase {
            messages: self.messages.max(other.messages),
            recipients: self.recipients.max(other.recipients),
            bytes: self.bytes.max(other.bytes),
        }
    }
}
