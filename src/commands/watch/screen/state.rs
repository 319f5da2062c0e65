//! What the operator has chosen: filter, order, the chosen sender, the page. Only keys change it.

use crate::status::snapshot::{Sender, Sort};

/// The longest text to filter by, in characters.
const MAX_FILTER: usize = 100;

/// In the order in which a key goes through them.
const SORTS: [(Sort, &str); 6] = [
    (Sort::Share, "share of quota"),
    (Sort::Recipients, "recipients"),
    (Sort::Messages, "messages"),
    (Sort::Blocked, "blocked"),
    (Sort::Last, "last mail"),
    (Sort::Name, "name"),
];

/// Returns the order's name for the title.
pub fn sort_name(sort: Sort) -> &'static str {
    SORTS.iter().find(|(one, _)| *one == sort).map_or("", |(_, name)| name)
}

fn next_sort(sort: Sort, back: bool) -> Sort {
    let at = SORTS.iter().position(|(one, _)| *one == sort).unwrap_or(0);
    let next = if back { at + SORTS.len() - 1 } else { at + 1 };
    SORTS.get(next % SORTS.len()).map_or(sort, |(sort, _)| *sort)
}

/// A key that has a meaning here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    Character(char),
    /// With the control key.
    Control(char),
    Enter,
    Escape,
    Backspace,
    Tab,
    BackTab,
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
}

/// How much there was to see when the screen was last drawn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// Lines for which there was room.
    pub rows: usize,
    /// All lines of the page.
    pub lines: usize,
}

/// What a key causes beside a change of the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    None,
    /// The database must be asked for something else: another order, a text, a sender.
    Asks,
    Quit,
}

/// What is on the screen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Page {
    #[default]
    Senders,
    /// One of them, by name, and how far it is scrolled.
    Sender { name: String, from: usize },
}

/// What the operator has chosen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    pub page: Page,
    /// Over the page.
    pub help: bool,
    pub sort: Sort,
    /// Only senders whose next message would be held or refused.
    pub blocked_only: bool,
    /// Only senders whose name contains this.
    pub filter: String,
    /// Whether keys go into the filter.
    pub typing: bool,
    /// The chosen sender. Stays the same however the order changes.
    chosen: Option<i64>,
    /// Its last place in the list; if it has gone, the sender at this place is chosen.
    place: usize,
}

impl State {
    /// Returns the senders to be shown, in their order.
    pub fn shown<'a>(&self, senders: &'a [Sender]) -> Vec<&'a Sender> {
        let filter = self.filter.to_lowercase();
        let wanted = |sender: &&Sender| {
            (!self.blocked_only || sender.next.is_some())
                && (filter.is_empty() || sender.sender.to_lowercase().contains(&filter))
        };
        senders.iter().filter(wanted).collect()
    }

    /// Returns the place of the chosen sender among the shown ones.
    pub fn place(&self, shown: &[&Sender]) -> usize {
        let found = self.chosen.and_then(|id| shown.iter().position(|sender| sender.id == id));
        found.unwrap_or(self.place).min(shown.len().saturating_sub(1))
    }

    /// Returns the sender whose page is open.
    pub fn opened(&self) -> Option<&str> {
        match &self.page {
            Page::Senders => None,
            Page::Sender { name, .. } => Some(name),
        }
    }

    /// Applies a key. `seen` is what the last drawing had room for.
    pub fn key(&mut self, key: Key, senders: &[Sender], seen: Seen) -> Effect {
        match key {
            Key::Control('c') => Effect::Quit,
            _ if self.typing => self.key_for_filter(key),
            Key::Character('q') => Effect::Quit,
            _ if self.help => {
                self.help = false;
                Effect::None
            }
            Key::Character('?' | 'h') => {
                self.help = true;
                Effect::None
            }
            _ if self.opened().is_some() => self.key_for_sender(key, seen),
            _ => self.key_for_list(key, senders, seen),
        }
    }

    fn key_for_sender(&mut self, key: Key, seen: Seen) -> Effect {
        if matches!(key, Key::Escape | Key::Backspace | Key::Enter) {
            self.page = Page::Senders;
            return Effect::Asks;
        }
        if let Page::Sender { from, .. } = &mut self.page {
            let most = seen.lines.saturating_sub(seen.rows);
            *from = moved(key, *from, seen.rows, most + 1).unwrap_or(*from);
        }
        Effect::None
    }

    fn key_for_list(&mut self, key: Key, senders: &[Sender], seen: Seen) -> Effect {
        let shown = self.shown(senders);
        let place = self.place(&shown);
        if let Some(place) = moved(key, place, seen.rows, shown.len()) {
            self.choose(place, &shown);
            return Effect::None;
        }
        match key {
            Key::Escape if self.filter.is_empty() && !self.blocked_only => return Effect::Quit,
            Key::Escape => {
                self.choose(place, &shown);
                self.filter.clear();
                self.blocked_only = false;
            }
            Key::Enter => match shown.get(place) {
                Some(sender) => {
                    self.choose(place, &shown);
                    self.page = Page::Sender { name: sender.sender.clone(), from: 0 };
                }
                None => return Effect::None,
            },
            Key::Character('/') => {
                self.typing = true;
                return Effect::None;
            }
            Key::Character('b') => {
                self.blocked_only = !self.blocked_only;
                return Effect::None;
            }
            Key::Character('s') | Key::Tab => self.sort = next_sort(self.sort, false),
            Key::Character('S') | Key::BackTab => self.sort = next_sort(self.sort, true),
            _ => return Effect::None,
        }
        Effect::Asks
    }

    fn choose(&mut self, place: usize, shown: &[&Sender]) {
        self.place = place;
        // At the first place no sender is held on to: the mark stays on the first line.
        self.chosen = shown.get(place).filter(|_| place > 0).map(|sender| sender.id);
    }

    fn key_for_filter(&mut self, key: Key) -> Effect {
        match key {
            Key::Character(character) if self.filter.chars().count() < MAX_FILTER => self.filter.push(character),
            Key::Backspace => {
                self.filter.pop();
            }
            Key::Control('u') => self.filter.clear(),
            Key::Enter => self.typing = false,
            Key::Escape => {
                self.filter.clear();
                self.typing = false;
            }
            _ => return Effect::None,
        }
        Effect::Asks
    }
}

/// Returns the line that a key leads to among `count` lines.
fn moved(key: Key, place: usize, rows: usize, count: usize) -> Option<usize> {
    let page = rows.saturating_sub(1).max(1);
    let last = count.saturating_sub(1);
    let place = match key {
        Key::Up | Key::Character('k') => place.saturating_sub(1),
        Key::Down | Key::Character('j') => place.saturating_add(1),
        Key::PageUp | Key::Control('b') => place.saturating_sub(page),
        Key::PageDown | Key::Control('f') | Key::Character(' ') => place.saturating_add(page),
        Key::Home | Key::Character('g') => 0,
        Key::End | Key::Character('G') => last,
        _ => return None,
    };
    Some(place.min(last))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::snapshot::Next;

    const SEEN: Seen = Seen { rows: 3, lines: 10 };

    fn senders(names: &[&str]) -> Vec<Sender> {
        let sender = |(number, name): (usize, &&str)| Sender {
            id: number as i64,
            sender: (*name).to_owned(),
            quota: Some(10),
            messages: 0,
            recipients: 0,
            usual: None,
            last: 0,
            blocked: 0,
            held: 0,
            next: name.starts_with('b').then(|| Next { action: "HOLD".into(), limit: "1x".into(), free_at: None }),
            hours: Vec::new(),
        };
        names.iter().enumerate().map(sender).collect()
    }

    fn chosen(state: &State, senders: &[Sender]) -> String {
        let shown = state.shown(senders);
        shown[state.place(&shown)].sender.clone()
    }

    fn press(state: &mut State, senders: &[Sender], keys: &str) {
        for key in keys.chars() {
            state.key(Key::Character(key), senders, SEEN);
        }
    }

    #[test]
    fn the_chosen_sender_stays_chosen_in_any_order() {
        let mut senders = senders(&["a1", "b1", "a2", "b2"]);
        let mut state = State::default();
        press(&mut state, &senders, "jj");
        assert_eq!(chosen(&state, &senders), "a2");
        senders.reverse();
        assert_eq!(chosen(&state, &senders), "a2");
        press(&mut state, &senders, "g");
        assert_eq!(chosen(&state, &senders), "b2");
        senders.reverse();
        assert_eq!(chosen(&state, &senders), "a1", "the mark stays on the first line");
        press(&mut state, &senders, "G");
        senders.pop();
        assert_eq!(chosen(&state, &senders), "a2", "the next sender is chosen when one is gone");
        state.key(Key::PageUp, &senders, SEEN);
        assert_eq!(chosen(&state, &senders), "a1");
    }

    #[test]
    fn a_filter_is_typed_and_taken_away() {
        let senders = senders(&["a1", "b1", "a2", "b2"]);
        let mut state = State::default();
        press(&mut state, &senders, "/Qb2");
        assert!(state.shown(&senders).is_empty(), "q is a letter here");
        for _ in 0..3 {
            assert_eq!(state.key(Key::Backspace, &senders, SEEN), Effect::Asks);
        }
        press(&mut state, &senders, "2");
        assert_eq!(state.shown(&senders).len(), 2);
        state.key(Key::Enter, &senders, SEEN);
        press(&mut state, &senders, "b");
        assert_eq!(chosen(&state, &senders), "b2");
        assert_eq!(state.key(Key::Escape, &senders, SEEN), Effect::Asks);
        assert_eq!(state.shown(&senders).len(), 4);
        assert_eq!(state.key(Key::Escape, &senders, SEEN), Effect::Quit);
    }

    #[test]
    fn a_sender_is_opened_and_left() {
        let senders = senders(&["a1", "b1"]);
        let mut state = State::default();
        press(&mut state, &senders, "j");
        assert_eq!(state.key(Key::Enter, &senders, SEEN), Effect::Asks);
        assert_eq!(state.opened(), Some("b1"));
        for _ in 0..30 {
            state.key(Key::Down, &senders, SEEN);
        }
        assert_eq!(state.page, Page::Sender { name: "b1".to_owned(), from: 7 }, "the last line stays at the end");
        press(&mut state, &senders, "?x");
        assert_eq!(state.opened(), Some("b1"), "any key leaves the help");
        assert_eq!(state.key(Key::Escape, &senders, SEEN), Effect::Asks);
        assert_eq!((state.opened(), chosen(&state, &senders).as_str()), (None, "b1"));
        assert_eq!(state.key(Key::Character('q'), &senders, SEEN), Effect::Quit);
    }

    #[test]
    fn nothing_to_choose_from_is_no_trouble() {
        let mut state = State::default();
        for key in [Key::Enter, Key::Down, Key::End, Key::PageDown, Key::Up, Key::Tab] {
            state.key(key, &[], Seen::default());
        }
        assert_eq!((state.opened(), state.sort), (None, Sort::Recipients));
        for _ in 0..SORTS.len() - 1 {
            state.key(Key::Tab, &[], Seen::default());
        }
        assert_eq!(state.sort, Sort::Share);
        state.key(Key::BackTab, &[], Seen::default());
        assert_eq!(state.sort, Sort::Name);
    }
}
