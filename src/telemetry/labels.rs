//! The labels of the figures: each an enum, whose values have their names here alone.

/// An enum with the name of each value.
macro_rules! labels {
    ($(#[$doc:meta])* $label:ident { $($(#[$value_doc:meta])* $value:ident = $name:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $label {
            $($(#[$value_doc])* $value,)+
        }

        impl $label {
            /// All values, in the order of their numbers.
            pub const ALL: [$label; [$($name),+].len()] = [$($label::$value),+];

            /// The name in metrics and in the log.
            pub fn name(self) -> &'static str {
                match self {
                    $($label::$value => $name,)+
                }
            }
        }
    };
}

labels! {
    /// How a request was settled.
    Outcome {
        /// Counted, and within its limits.
        Accepted = "accepted",
        /// Counted, and over a limit.
        Blocked = "blocked",
        /// Charged to no account.
        NotCounted = "not_counted",
        /// Answered with ACTION_ON_ERROR.
        InDoubt = "in_doubt",
    }
}

labels! {
    /// Ways by which people are told.
    Channel {
        Webhook = "webhook",
        /// To NOTIFY_MAIL_TO.
        Mail = "mail",
        /// To the sender whose quota it is.
        SenderMail = "sender_mail",
    }
}

labels! {
    /// What became of one notification, or of one attempt.
    Delivery {
        Delivered = "delivered",
        /// An attempt failed, and there will be another.
        Retried = "retried",
        /// Refused, or given up.
        Failed = "failed",
        /// There was no room to keep it.
        Dropped = "dropped",
    }
}

labels! {
    /// What became of an event that people want to hear of.
    Heard {
        Told = "told",
        /// By this daemon or another, in the same period.
        AlreadyTold = "already_told",
        /// Told by a summary only.
        LeftOut = "left_out",
        Dropped = "dropped",
    }
}
