//! What was recently held or refused, and why: for each sender and action the last message, and how many there were.

use ratatui::text::Line;

use super::super::look::Tone;
use super::columns::Columns;
use super::sheet::Sheet;
use super::view::View;
use crate::commands::text::{self, number_in, safe};
use crate::store::refusals::Refusal;

/// Widths from which on there are further columns.
const WITH_TIMES: usize = 60;
const WITH_CLIENT: usize = 110;

/// At most so many lines: a title, and the last ones.
pub fn draw(sheet: &mut Sheet, view: &View<'_>, lines: usize) {
    let (look, width) = (view.look, sheet.width());
    sheet.title(look, &[(Tone::Strong, "Recently held or refused".to_owned())]);
    let Some(snapshot) = &view.figures.snapshot else { return };
    let last: Vec<&Refusal> = snapshot.refused.last.iter().take(lines.saturating_sub(1)).collect();
    if last.is_empty() {
        return sheet.lines(vec![Line::from(nothing(snapshot.refused.known))]);
    }
    let longest = last.iter().map(|refusal| text::width(&safe(&refusal.sender, look.unicode))).max().unwrap_or(0);
    let mut columns: Columns<'_, Refusal> = Columns::new(look, width);
    columns.left("", 8, |refusal, cells| view.lately(refusal.at, cells));
    columns.left("", 7, |refusal, cells| view.action(&refusal.action, cells));
    columns.left("", longest.clamp(1, (width / 3).max(12)), |refusal, cells| look.foreign(&refusal.sender, cells));
    if width >= WITH_TIMES {
        columns.right("", 6, |refusal, cells| match refusal.count {
            ..2 => Line::default(),
            count => {
                let times = format!("{}x", number_in(count.max(0).cast_unsigned(), cells - 1));
                look.text(Tone::of_action(&refusal.action), &times, cells)
            }
        });
    }
    if width >= WITH_CLIENT {
        columns.right("", 6, |refusal, cells| look.number(refusal.recipients, cells));
        columns.left("", 16, |refusal, cells| look.foreign(&refusal.client_address, cells));
        columns.left("", 12, |refusal, cells| look.foreign(&refusal.queue_id, cells));
    }
    columns.left("", columns.room(), |refusal, cells| look.foreign(&refusal.reason, cells));
    sheet.add(last.len(), columns.table(last));
}

/// What stands in the place of messages. `known`: whether the database has them.
pub fn nothing(known: bool) -> &'static str {
    if known { " Nothing." } else { " Not known: MESSAGE_LOG is off." }
}
