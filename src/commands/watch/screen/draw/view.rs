//! What is drawn, and how its times and actions are written.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use ratatui::text::Line;

use crate::commands::text::safe;
use crate::commands::watch::screen::figures::Figures;
use crate::commands::watch::screen::look::{Look, Tone};
use crate::commands::watch::screen::state::State;
use crate::limiter::decide::Policy;

/// What is drawn.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    pub figures: &'a Figures,
    pub state: &'a State,
    pub policy: &'a Policy,
    /// In seconds since 1970.
    pub now: i64,
    /// The time between two looks at the database.
    pub interval: Duration,
    pub look: Look,
}

impl View<'_> {
    /// A recent time: of the day, or the date if it is longer ago.
    pub fn lately(&self, at: i64, cells: usize) -> Line<'static> {
        let form = if self.now.saturating_sub(at) < 24 * 3600 { "%H:%M:%S" } else { "%m-%d" };
        self.look.text(Tone::Plain, &format(at, &self.policy.zone, form), cells)
    }

    /// What Postfix is told, in short.
    pub fn action(&self, action: &str, cells: usize) -> Line<'static> {
        self.look.text(Tone::of_action(action), &safe(short_action(action), self.look.unicode), cells)
    }
}

/// The time of day, in the server's zone.
pub fn clock(at: i64, zone: &TimeZone) -> String {
    format(at, zone, "%H:%M:%S")
}

/// A time, in seconds since 1970, in a form of strftime.
pub fn format(at: i64, zone: &TimeZone, form: &str) -> String {
    let local = Timestamp::from_second(at).map(|at| at.to_zoned(zone.clone()));
    local.map_or_else(|_| "?".to_owned(), |at| at.strftime(form).to_string())
}

/// An action, short enough for a column.
pub fn short_action(action: &str) -> &str {
    action.strip_suffix("_IF_PERMIT").unwrap_or(action)
}
