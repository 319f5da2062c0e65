//! The terminal: drawn on, restored however the program ends; and the keys that come from it.

use std::io::{self, IsTerminal};
use std::thread;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyModifiers};
use tokio::sync::mpsc;

use super::screen::draw::{self, View};
use super::screen::state::{Key, Seen};

/// The terminal in raw mode. Dropping it restores the terminal; a panic does so before its message is printed.
pub struct Terminal(DefaultTerminal);

impl Terminal {
    /// Puts the terminal into raw mode, on its alternate screen.
    pub fn take() -> io::Result<Terminal> {
        ratatui::try_init().map(Terminal).inspect_err(|_| {
            let _ = ratatui::try_restore();
        })
    }

    /// Draws what has changed.
    pub fn draw(&mut self, view: &View<'_>) -> io::Result<Seen> {
        let mut seen = Seen::default();
        self.0.draw(|frame| seen = draw::draw(frame, view))?;
        Ok(seen)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It fails only if the terminal is gone. Dropping the field shows the cursor again.
        let _ = ratatui::try_restore();
    }
}

/// Leaves raw mode when nothing else can be done: what was drawn stays.
pub fn abandon() {
    let _ = ratatui::crossterm::terminal::disable_raw_mode();
}

/// Returns why `watch` cannot draw here, or None if it can.
pub fn obstacle() -> Option<&'static str> {
    if !io::stdout().is_terminal() {
        return Some("standard output is no terminal");
    }
    match std::env::var("TERM") {
        Ok(name) if name != "dumb" && !name.is_empty() => None,
        _ => Some("TERM is unset or `dumb`, so the terminal cannot move its cursor"),
    }
}

/// What comes from the terminal.
#[derive(Debug)]
pub enum Input {
    Key(Key),
    /// Its size has changed.
    Resized,
    /// Reading from it failed; nothing more comes.
    Lost(io::Error),
}

/// Reads keys, on a thread of its own that ends with the process.
pub fn inputs() -> io::Result<mpsc::Receiver<Input>> {
    let (sender, receiver) = mpsc::channel(64);
    let read = move || {
        loop {
            let input = match event::read() {
                Ok(Event::Key(event)) if event.is_press() => key(event).map(Input::Key),
                Ok(Event::Resize(..)) => Some(Input::Resized),
                Ok(_) => None,
                Err(error) => Some(Input::Lost(error)),
            };
            let is_lost = matches!(input, Some(Input::Lost(_)));
            let is_taken = input.is_none_or(|input| sender.blocking_send(input).is_ok());
            if is_lost || !is_taken {
                return;
            }
        }
    };
    thread::Builder::new().name("keys".to_owned()).spawn(read)?;
    Ok(receiver)
}

/// Returns the key, or None if it has no meaning here.
fn key(event: KeyEvent) -> Option<Key> {
    let control = event.modifiers.contains(KeyModifiers::CONTROL);
    if event.modifiers.intersects(KeyModifiers::ALT | KeyModifiers::SUPER | KeyModifiers::META) {
        return None;
    }
    Some(match event.code {
        KeyCode::Char(character) if control => Key::Control(character.to_ascii_lowercase()),
        KeyCode::Char(character) => Key::Character(character),
        KeyCode::Enter => Key::Enter,
        KeyCode::Esc => Key::Escape,
        KeyCode::Backspace => Key::Backspace,
        KeyCode::Tab => Key::Tab,
        KeyCode::BackTab => Key::BackTab,
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Home => Key::Home,
        KeyCode::End => Key::End,
        KeyCode::F(1) => Key::Character('?'),
        _ => return None,
    })
}
