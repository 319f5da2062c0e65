//! What was held or refused of late, and why; of one sender by one action the last, and how many there were.

use ratatui::text::Line;

use super::super::look::Tone;
use super::super::text::{self, number_in, safe};
use super::row::Row;
use super::{View, lately, title, told};
use crate::store::refusals::Refusal;

const TIME: usize = 8;
const ACTION: usize = 7;
/// How often, for one sender and one action.
const TIMES: usize = 6;
const RECIPIENTS: usize = 6;
const CLIENT: usize = 16;
const QUEUE_ID: usize = 12;
/// Widths from which on there are further columns.
const WITH_TIMES: usize = 60;
const WITH_CLIENT: usize = 110;

/// At most so many lines: a title, and the last ones.
pub fn lines(view: &View<'_>, width: usize, room: usize) -> Vec<Line<'static>> {
    let mut lines = vec![title(view.look, width, &[(Tone::Strong, "Held or refused of late".to_owned())])];
    let Some(snapshot) = &view.figures.snapshot else { return lines };
    let last: Vec<&Refusal> = snapshot.refused.last.iter().take(room.saturating_sub(1)).collect();
    if last.is_empty() {
        lines.push(Line::from(match snapshot.refused.known {
            true => " Nothing.",
            false => " Not known: MESSAGE_LOG is off.",
        }));
        return lines;
    }
    let name = |refusal: &Refusal| safe(&refusal.sender, view.look.unicode);
    let longest = last.iter().map(|refusal| text::width(&name(refusal))).max().unwrap_or(0);
    let names = longest.clamp(1, (width / 3).max(12));
    for refusal in last {
        let mut row = Row::new(view.look, width);
        row.add(Tone::Plain, " ");
        row.column(Tone::Plain, &lately(refusal.at, view.now, &view.policy.zone), TIME);
        let (tone, action) = told(&refusal.action);
        row.column(tone, &safe(action, view.look.unicode), ACTION);
        row.column(Tone::Plain, &name(refusal), names);
        let positive = |number: i64| u64::try_from(number).unwrap_or(0);
        if width >= WITH_TIMES {
            let times = if refusal.count > 1 {
                format!("{}x", number_in(positive(refusal.count), TIMES - 1))
            } else {
                String::new()
            };
            row.column_right(tone, &times, TIMES);
        }
        if width >= WITH_CLIENT {
            row.column_right(Tone::Plain, &number_in(positive(refusal.recipients), RECIPIENTS), RECIPIENTS);
            row.column(Tone::Plain, &safe(&refusal.client_address, view.look.unicode), CLIENT);
            row.column(Tone::Plain, &safe(&refusal.queue_id, view.look.unicode), QUEUE_ID);
        }
        row.column(Tone::Plain, &safe(&refusal.reason, view.look.unicode), row.room().saturating_sub(1));
        lines.push(row.line());
    }
    lines
}
