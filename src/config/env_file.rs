//! Reads a settings file as PolicydRateGuard's python-dotenv reads it, so that the same file gives the same values.
//!
//! dotenvy reads each value, but not the line as it stands: `A=b c` and `A="p$ss"`, which python-dotenv takes as they are, are
//! errors to it, and `A=p$ss` becomes `p` without a word. So statements are found by python-dotenv's rules, `${NAME}` is filled
//! in, and the result is written in the one form that dotenvy takes literally. What must stay true is in `tests/dotenv`: lines,
//! and the values that python-dotenv reads from them.

use std::collections::HashMap;
use std::io;

/// The largest settings file, in bytes.
pub const MAX_FILE: usize = 1 << 20;

/// The most that all values together may come to once `${NAME}` is filled in, in bytes: a few lines that name each other
/// could otherwise double without end.
const MAX_VALUES: usize = 4 << 20;

/// One statement; a quoted value may span several lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The line that it begins on, from 1.
    pub line: usize,
    pub content: Content,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// `NAME=value`
    Value { name: String, value: String },
    /// `NAME= # comment`: empty to python-dotenv since 1.2, and `# comment` before.
    CommentForValue { name: String },
    /// `NAME` without `=`; it unsets what an earlier line said.
    NoValue { name: String },
    /// No statement; python-dotenv continues with the next line.
    Broken,
}

/// Why a settings file could not be read at all.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum EnvFileError {
    #[error("is larger than {} KiB; is it a settings file?", MAX_FILE / 1024)]
    TooLarge,
    #[error("is not UTF-8 here; write the file anew in UTF-8")]
    NotUtf8 { line: usize },
    #[error("grows beyond {} MiB by the ${{NAME}} here", MAX_VALUES >> 20)]
    Expanded { line: usize },
    /// Held impossible by a property test. The value is not repeated here: it may be a password.
    #[error("has a value here that cannot be read")]
    Dotenvy { line: usize },
}

impl EnvFileError {
    /// The line with the error, from 1; 0 for the whole file.
    pub fn line(&self) -> usize {
        match self {
            EnvFileError::TooLarge => 0,
            EnvFileError::NotUtf8 { line } | EnvFileError::Expanded { line } | EnvFileError::Dotenvy { line } => *line,
        }
    }
}

/// Returns the statements of a settings file in their order. `${NAME}` is looked up in `environment` first, then in the lines
/// above.
pub fn parse(bytes: &[u8], environment: &HashMap<String, String>) -> Result<Vec<Statement>, EnvFileError> {
    if bytes.len() > MAX_FILE {
        return Err(EnvFileError::TooLarge);
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let good = bytes.get(..error.valid_up_to()).unwrap_or_default();
        EnvFileError::NotUtf8 { line: 1 + line_ends(&String::from_utf8_lossy(good)) }
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n").replace('\r', "\n");
    let mut statements = Scanner { rest: &text, line: 1 }.statements();
    expand(&mut statements, environment)?;
    for Statement { line, content } in &mut statements {
        if let Content::Value { name, value } = content {
            *value = read_by_dotenvy(name, value).ok_or(EnvFileError::Dotenvy { line: *line })?;
        }
    }
    Ok(statements)
}

/// Returns the value as it must be written for python-dotenv and [`parse`] to read it back; quoted only if needed.
pub fn written(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.,:/@%+=[]{}?".contains(c);
    if !value.is_empty() && value.chars().all(plain) {
        return value.to_owned();
    }
    // `${` would name another setting, in quotes too; the one without a name is never set, and its default is `$`.
    let literal = value.replace("${", "${:-$}{");
    format!("'{}'", literal.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// Returns the line that sets `name` to `value`.
pub fn assignment(name: &str, value: &str) -> String {
    format!("{name}={}", written(value))
}

/// Returns how many lines end in `text`, by any of the three line ends.
fn line_ends(text: &str) -> usize {
    text.replace("\r\n", "\n").replace('\r', "\n").matches('\n').count()
}

/// Whether Python calls it white space: Unicode's, and four separators of ASCII.
fn is_blank(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

fn is_blank_in_line(c: char) -> bool {
    is_blank(c) && c != '\n'
}

/// Reads the text statement by statement. Each method takes from the front of `rest` what it is named after.
struct Scanner<'a> {
    rest: &'a str,
    line: usize,
}

impl<'a> Scanner<'a> {
    fn statements(mut self) -> Vec<Statement> {
        let mut statements = Vec::new();
        loop {
            self.take_while(is_blank);
            if self.rest.is_empty() {
                return statements;
            }
            let line = self.line;
            match self.statement() {
                Some(None) => {}
                Some(Some(content)) => statements.push(Statement { line, content }),
                None => {
                    self.take_while(|c| c != '\n');
                    statements.push(Statement { line, content: Content::Broken });
                }
            }
        }
    }

    /// One statement with its line end: None if it is broken, `Some(None)` for a comment.
    fn statement(&mut self) -> Option<Option<Content>> {
        self.export();
        let name = if self.rest.starts_with('#') { None } else { Some(self.name()?.to_owned()) };
        self.take_while(is_blank_in_line);
        let content = match name {
            None => None,
            Some(name) if !self.take("=") => Some(Content::NoValue { name }),
            Some(name) => {
                let blanks = self.take_while(is_blank_in_line);
                if !blanks.is_empty() && self.rest.starts_with('#') {
                    Some(Content::CommentForValue { name })
                } else {
                    Some(Content::Value { value: self.value()?, name })
                }
            }
        };
        self.take_while(is_blank_in_line);
        if self.rest.starts_with('#') {
            self.take_while(|c| c != '\n');
        }
        (self.rest.is_empty() || self.take("\n")).then_some(content)
    }

    /// `export` and blanks, if they are there.
    fn export(&mut self) {
        if self.rest.strip_prefix("export").is_some_and(|after| after.starts_with(is_blank_in_line)) {
            self.take("export");
            self.take_while(is_blank_in_line);
        }
    }

    fn name(&mut self) -> Option<&'a str> {
        let name = if let Some(inside) = self.rest.strip_prefix('\'') {
            let (name, _) = inside.split_once('\'')?;
            self.advance(name.len() + 2);
            name
        } else {
            self.take_while(|c| c != '=' && c != '#' && !is_blank(c))
        };
        (!name.is_empty()).then_some(name)
    }

    /// The value after `=`, decoded; `${NAME}` still stands in it.
    fn value(&mut self) -> Option<String> {
        if self.rest.starts_with('\'') {
            self.quoted('\'').map(|written| decode(written, |c| matches!(c, '\\' | '\'').then_some(c)))
        } else if self.rest.starts_with('"') {
            self.quoted('"').map(|written| decode(written, double_quote_escape))
        } else {
            let written = self.take_while(|c| c != '\n');
            Some(without_comment(written).trim_end_matches(is_blank).to_owned())
        }
    }

    /// The text between two quotes. A backslash belongs to the character after it, so that `\"` does not end the value.
    /// If the second quote is missing, nothing is taken.
    fn quoted(&mut self, quote: char) -> Option<&'a str> {
        let inside = self.rest.strip_prefix(quote)?;
        let mut escaped = false;
        let end = inside.find(|c| {
            let ends = c == quote && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        })?;
        let inside = inside.get(..end)?;
        self.advance(quote.len_utf8() + end + quote.len_utf8());
        Some(inside)
    }

    fn take(&mut self, text: &str) -> bool {
        let there = self.rest.starts_with(text);
        if there {
            self.advance(text.len());
        }
        there
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !wanted(c)).unwrap_or(self.rest.len());
        self.advance(end)
    }

    fn advance(&mut self, bytes: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at_checked(bytes).unwrap_or((self.rest, ""));
        self.line += taken.matches('\n').count();
        self.rest = rest;
        taken
    }
}

/// Replaces each backslash and the character after it by what they mean; if they mean nothing, both stay.
fn decode(written: &str, meaning: fn(char) -> Option<char>) -> String {
    let mut decoded = String::with_capacity(written.len());
    let mut characters = written.chars().peekable();
    while let Some(c) = characters.next() {
        match (c == '\\').then(|| characters.peek().copied().and_then(meaning)).flatten() {
            Some(meant) => {
                decoded.push(meant);
                characters.next();
            }
            None => decoded.push(c),
        }
    }
    decoded
}

fn double_quote_escape(c: char) -> Option<char> {
    Some(match c {
        '\\' | '\'' | '"' => c,
        'a' => '\u{7}',
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\u{b}',
        _ => return None,
    })
}

/// An unquoted value up to blanks followed by `#`. A `#` at its very beginning, or within a word, is part of it.
fn without_comment(written: &str) -> &str {
    let comment = written.match_indices('#').find(|(at, _)| written.get(..*at).is_some_and(|w| w.ends_with(is_blank)));
    comment.and_then(|(at, _)| written.get(..at)).unwrap_or(written)
}

/// Fills `${NAME}` and `${NAME:-text}` in: from the environment, else from the lines above, else the text. As in
/// python-dotenv this happens in single quotes too, and a `$` without `{` is a plain character.
fn expand(statements: &mut [Statement], environment: &HashMap<String, String>) -> Result<(), EnvFileError> {
    let mut above: HashMap<String, String> = HashMap::new();
    let mut room = MAX_VALUES;
    for Statement { line, content } in statements {
        let (name, value) = match content {
            Content::Value { name, value } => {
                *value = filled_in(value, &mut room, |name| environment.get(name).or_else(|| above.get(name)))
                    .ok_or(EnvFileError::Expanded { line: *line })?;
                (name, value.as_str())
            }
            // Known from here on, and empty: a text after `:-` is not used.
            Content::CommentForValue { name } | Content::NoValue { name } => (name, ""),
            Content::Broken => continue,
        };
        above.insert(name.clone(), value.to_owned());
    }
    Ok(())
}

/// Returns the value with each `${NAME}` replaced, or None if that takes more than `room`, in bytes.
fn filled_in<'a>(value: &str, room: &mut usize, find: impl Fn(&str) -> Option<&'a String>) -> Option<String> {
    let mut result = String::new();
    let mut push = |text: &str| -> Option<()> {
        *room = room.checked_sub(text.len())?;
        result.push_str(text);
        Some(())
    };
    // After the last closing brace there is no `${NAME}`; not looking there keeps the time linear.
    let (mut rest, plain) = value.split_at_checked(value.rfind('}').map_or(0, |at| at + 1))?;
    while let Some((before, after)) = rest.split_once("${") {
        push(before)?;
        match variable(after) {
            Some((name, text, tail)) => {
                push(find(name).map_or(text, String::as_str))?;
                rest = tail;
            }
            None => {
                push("${")?;
                rest = after;
            }
        }
    }
    push(rest)?;
    push(plain)?;
    Some(result)
}

/// Splits `NAME}…` or `NAME:-text}…` into name, text and what follows.
fn variable(after: &str) -> Option<(&str, &str, &str)> {
    let (name, from_end) = after.split_at_checked(after.find(['}', ':'])?)?;
    if let Some(tail) = from_end.strip_prefix('}') {
        return Some((name, "", tail));
    }
    let (text, tail) = from_end.strip_prefix(":-")?.split_once('}')?;
    Some((name, text, tail))
}

/// Returns the value that dotenvy reads from a line with this one. A name that it does not take is no setting, and its value is
/// kept for the warning.
fn read_by_dotenvy(name: &str, value: &str) -> Option<String> {
    let is_taken = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.');
    if !is_taken {
        return Some(value.to_owned());
    }
    // A backslash before each character that means something to dotenvy between double quotes.
    let mut line = format!("{name}=\"");
    for c in value.chars() {
        match c {
            '\n' => line.push_str("\\n"),
            '\\' | '"' | '$' => line.extend(['\\', c]),
            _ => line.push(c),
        }
    }
    line.push_str("\"\n");
    let (_, value) = dotenvy::from_read_iter(io::Cursor::new(line)).next()?.ok()?;
    Some(value)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use nix::time::{ClockId, clock_gettime};
    use proptest::prelude::*;

    use super::*;

    fn values(file: &str) -> HashMap<String, String> {
        as_map(&parse(file.as_bytes(), &HashMap::new()).expect("the file is read"))
    }

    /// As `load_dotenv` would set them.
    fn as_map(statements: &[Statement]) -> HashMap<String, String> {
        let mut values = HashMap::new();
        for Statement { content, .. } in statements {
            match content.clone() {
                Content::Value { name, value } => values.insert(name, value),
                Content::CommentForValue { name } => values.insert(name, String::new()),
                Content::NoValue { name } => values.remove(&name),
                Content::Broken => None,
            };
        }
        values
    }

    #[derive(serde::Deserialize)]
    struct Table {
        environment: HashMap<String, String>,
        cases: Vec<Case>,
    }

    #[derive(serde::Deserialize)]
    struct Case {
        file: String,
        values: HashMap<String, String>,
        broken: usize,
    }

    #[test]
    fn the_same_file_gives_the_values_of_python_dotenv() {
        let table: Table = serde_json::from_str(include_str!("../../tests/dotenv/expected.json")).unwrap();
        assert!(table.cases.len() > 300);
        for case in table.cases {
            let file = parse(case.file.as_bytes(), &table.environment).unwrap();
            let broken = file.iter().filter(|one| one.content == Content::Broken).count();
            assert_eq!((as_map(&file), broken), (case.values, case.broken), "{:?}", case.file);
        }
    }

    #[test]
    fn lines_are_counted_whatever_ends_them() {
        let file = parse(b"A='1\n2'\r\n# c\r\rB='\\'\nC\nD x\nE= # c", &HashMap::new()).unwrap();
        let lines: Vec<_> = file.iter().map(|one| one.line).collect();
        assert_eq!(lines, [1, 5, 6, 7, 8]);
        assert!(matches!(file[1].content, Content::Broken));
        assert!(matches!(file[2].content, Content::NoValue { .. }));
        assert!(matches!(file[3].content, Content::Broken));
        assert!(matches!(file[4].content, Content::CommentForValue { .. }));
    }

    #[test]
    fn what_is_no_settings_file_is_refused() {
        let none = HashMap::new();
        assert_eq!(parse(b"A=1\r\nB=2\nC=\xff", &none), Err(EnvFileError::NotUtf8 { line: 3 }));
        assert_eq!(parse(&vec![b'#'; MAX_FILE + 1], &none), Err(EnvFileError::TooLarge));
        let mut doubling = String::from("A0=0123456789\n");
        for line in 1..100 {
            doubling.push_str(&format!("A{line}=${{A{0}}}${{A{0}}}\n", line - 1));
        }
        assert!(matches!(parse(doubling.as_bytes(), &none), Err(EnvFileError::Expanded { line: 19 })));
    }

    /// Eight times the text takes about eight times the processor's time, where a walk to the end for each piece would take 64
    /// times as much.
    #[test]
    fn the_time_to_read_a_file_grows_with_its_size_only() {
        let used = || Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap());
        let least = |file: &str| {
            let once = |_| {
                let before = used();
                let _ = parse(file.as_bytes(), &HashMap::new());
                used() - before
            };
            (0..9).map(once).min().unwrap()
        };
        for piece in ["${", "${:", "${A:-", "A='\\'\n", "#", "'"] {
            let file = |bytes: usize| format!("A={}", piece.repeat(bytes / piece.len()));
            let (small, large) = (least(&file(32 << 10)), least(&file(256 << 10)));
            assert!(large < small * 24, "{piece:?}: {large:?} after {small:?}");
        }
    }

    proptest! {
        #[test]
        fn any_password_survives_every_quoting(password in "[^\r$\0]{0,40}|[\\\\'\"#$ a{}]{0,12}") {
            prop_assume!(!password.contains("${"));
            let single = password.replace('\\', "\\\\").replace('\'', "\\'");
            prop_assert_eq!(&values(&format!("A='{single}' # comment"))["A"], &password);
            let double = password.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            prop_assert_eq!(&values(&format!("export A = \"{double}\"\n"))["A"], &password);
            let bare = !password.contains(|c| is_blank(c) || c == '\n') && !password.starts_with(['\'', '"']);
            if bare {
                prop_assert_eq!(&values(&format!("A={password} # comment"))["A"], &password);
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes, &HashMap::new());
        }

        #[test]
        fn dotenvy_takes_every_value_literally(value in "(.|\n|\r){0,40}|[$\\\\'\" \n{}a#]{0,12}") {
            prop_assert_eq!(read_by_dotenvy("A", &value), Some(value.clone()));
        }

        #[test]
        fn dotenvy_reads_ordinary_lines_alike(value in "[a-zA-Z0-9_.,:/@%+-]{0,20}|'[^'\\\\\r\n$]{0,20}'|\"[^\"\\\\\r\n$]{0,20}\"") {
            for line in [format!("A={value}"), format!("export A={value} # comment\n")] {
                let read = dotenvy::from_read_iter(line.as_bytes()).collect::<Result<HashMap<_, _>, _>>().unwrap();
                prop_assert_eq!(values(&line), read);
            }
        }
    }
}
