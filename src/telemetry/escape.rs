//! Which characters must not reach a log as they are, and how they are shown.

use std::fmt;

/// Whether a character could end a line, steer a terminal or change how the rest of the line is shown.
pub fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{061c}'                  // Arabic letter mark
            | '\u{200b}'..='\u{200f}'   // zero width characters, direction marks
            | '\u{2028}'..='\u{202e}'   // line and paragraph separators, direction overrides
            | '\u{2060}'..='\u{206f}'   // word joiner, direction isolates
            | '\u{feff}'                // byte order mark
            | '\u{fff9}'..='\u{fffb}'   // interlinear annotation
            | '\u{e0000}'..='\u{e007f}' // invisible tags
        )
}

/// Writes a character as `\n`, `\t`, `\\`, `\"`, `\u{1b}`, … when `hide` says so, else as it is.
///
/// Returns false, with nothing written, when that takes more than `room` bytes: an escape is never cut in two.
pub(super) fn write_char(
    out: &mut impl fmt::Write,
    c: char,
    hide: impl Fn(char) -> bool,
    room: usize,
) -> Result<bool, fmt::Error> {
    if !hide(c) {
        if c.len_utf8() > room {
            return Ok(false);
        }
        out.write_char(c)?;
        return Ok(true);
    }
    // escape_default leaves visible ASCII alone; what is hidden of that is written by its number.
    if c.escape_default().len() == 1 {
        let shown = c.escape_unicode();
        if shown.len() > room {
            return Ok(false);
        }
        write!(out, "{shown}")?;
    } else {
        let shown = c.escape_default();
        if shown.len() > room {
            return Ok(false);
        }
        write!(out, "{shown}")?;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        let mut out = String::new();
        for c in text.chars() {
            assert!(write_char(&mut out, c, is_unprintable, 16).unwrap());
        }
        out
    }

    #[test]
    fn shows_what_would_end_or_turn_a_line() {
        assert_eq!(shown("a\nb\r\tc\0\u{1b}[31m\u{85}"), r"a\nb\r\tc\u{0}\u{1b}[31m\u{85}");
        assert_eq!(shown("x\u{2028}\u{202e}\u{2066}\u{feff}y"), r"x\u{2028}\u{202e}\u{2066}\u{feff}y");
    }

    #[test]
    fn leaves_people_s_names_alone() {
        assert_eq!(shown(r#"Jürgen Ωmega 山田 "x\y" 😀"#), r#"Jürgen Ωmega 山田 "x\y" 😀"#);
    }

    #[test]
    fn an_escape_is_whole_or_absent() {
        let mut out = String::new();
        assert!(!write_char(&mut out, '\u{1b}', is_unprintable, 5).unwrap());
        assert!(!write_char(&mut out, 'é', is_unprintable, 1).unwrap());
        assert!(!write_char(&mut out, ',', |c| c == ',', 5).unwrap());
        assert_eq!(out, "");
    }
}
