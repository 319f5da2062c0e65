//! A policy request, read from bytes as they come.
//!
//! A request is `name=value` lines and an empty line (SMTPD_POLICY_README). The parser takes any chunking, keeps only what it
//! needs, and bounds everything: what one client sends costs the daemon at most [`MAX_REQUEST`] bytes.

use memchr::memchr;

use super::queue_id::QueueId;

/// The longest line that is kept, in bytes without its newline. What comes after on the same line is left out, so that
/// no sender escapes a limit by a long HELO: the request counts with its cut value.
pub const MAX_LINE: usize = 8192;
/// The longest request, in bytes with its newlines, the one that ends it too. A client that sends more is cut off.
pub const MAX_REQUEST: usize = 64 * 1024;
/// The most lines a request may have. Postfix 3.12 sends 33; a request with more than this is nonsense.
pub const MAX_ATTRIBUTES: usize = 256;
/// The most recipients that one request can sensibly announce.
pub const MAX_RECIPIENTS: u32 = 1_000_000;
/// The longest value kept of an attribute that is only shown, in bytes. A login keeps its whole line: its length matters.
const MAX_SHOWN: usize = 512;

/// The SMTP stage at which Postfix asks (`protocol_state`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// RCPT, and every list that `smtpd_delay_reject` moves there. One request per recipient; `recipient_count` is 0.
    Rcpt,
    /// DATA, and BDAT's first chunk.
    Data,
    EndOfMessage,
    /// A stage at which there are no recipients to count.
    Other(String),
}

/// One policy request. Attributes that Postfix left out are empty or 0; control characters have become `?` and bytes that
/// are not UTF-8 have become U+FFFD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub stage: Stage,
    /// None before Postfix has a queue file, and if the client wrote something else.
    pub queue_id: Option<QueueId>,
    /// Equal for all requests about one message; empty before Postfix 2.1's first MAIL FROM.
    pub instance: String,
    pub client_address: String,
    pub client_name: String,
    pub helo_name: String,
    pub sasl_method: String,
    pub sasl_username: String,
    /// The envelope sender; empty for `<>`.
    pub sender: String,
    /// Empty at DATA and END-OF-MESSAGE when there are several.
    pub recipient: String,
    pub recipient_count: u32,
    /// Bytes: announced by the client until END-OF-MESSAGE, then real.
    pub size: u64,
    /// Our own attribute, [`DRY_RUN`]: judge, but do not count.
    pub dry_run: bool,
}

/// An attribute that Postfix never sends: `query --dry-run` and `doctor` ask with it to be judged without being counted.
pub const DRY_RUN: &str = "policyd_rate_guard_dry_run";

/// Why a request that ended makes no sense. It is answered with ACTION_ON_ERROR.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Nonsense {
    #[error("the request is empty")]
    Empty,
    #[error("a line has no name and `=`: {0:?}")]
    NotAnAttribute(String),
    #[error("it has more than {MAX_ATTRIBUTES} attributes")]
    TooManyAttributes,
    #[error("request={0:?} is not smtpd_access_policy")]
    NotAPolicyRequest(String),
    #[error("{name}={value:?} is not a number from 0 to {most}")]
    NotANumber { name: &'static str, value: String, most: u64 },
}

/// What [`Parser::feed`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// An empty line ended a request.
    Request(Result<Box<Request>, Nonsense>),
    /// The request exceeds [`MAX_REQUEST`]: the connection is of no more use.
    Endless,
}

/// Reads requests from a stream of bytes. Holds what came of the request that has not ended yet.
#[derive(Debug, Default)]
pub struct Parser {
    line: Vec<u8>,
    /// Bytes of the present request seen so far.
    seen: usize,
    attributes: usize,
    draft: Draft,
    nonsense: Option<Nonsense>,
}

impl Parser {
    /// Takes bytes from the front of `input` up to the end of the first request in it. Says how many it took; without an
    /// event it took them all and wants more.
    pub fn feed(&mut self, input: &[u8]) -> (usize, Option<Event>) {
        let mut taken = 0;
        while let Some(rest) = input.get(taken..).filter(|rest| !rest.is_empty()) {
            let newline = memchr(b'\n', rest);
            let piece = rest.get(..newline.unwrap_or(rest.len())).unwrap_or(rest);
            let room = MAX_LINE.saturating_sub(self.line.len());
            let kept = piece.get(..room).unwrap_or(piece);
            let step = piece.len() + usize::from(newline.is_some());
            taken += step;
            self.seen += step;
            // Before the end of the line is looked at: whether it came in the same piece must make no difference.
            if self.seen > MAX_REQUEST {
                return (taken, Some(Event::Endless));
            }
            let ends_request = match newline {
                None => {
                    self.line.extend_from_slice(kept);
                    false
                }
                // Almost every line comes in one piece, and is read where it is.
                Some(_) if self.line.is_empty() => self.end_line(kept),
                Some(_) => {
                    self.line.extend_from_slice(kept);
                    let line = std::mem::take(&mut self.line);
                    self.end_line(&line)
                }
            };
            if ends_request {
                return (taken, Some(Event::Request(self.end_request())));
            }
        }
        (taken, None)
    }

    /// Whether a request has begun and not ended.
    pub fn is_midway(&self) -> bool {
        self.seen > 0
    }

    /// Takes in a line that ended; true if it was the empty one that ends the request.
    fn end_line(&mut self, line: &[u8]) -> bool {
        // Postfix ends lines with a newline alone; a request that is typed by hand may have CR as well.
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            return true;
        }
        self.attributes += 1;
        if self.nonsense.is_none() {
            self.nonsense = if self.attributes > MAX_ATTRIBUTES {
                Some(Nonsense::TooManyAttributes)
            } else {
                self.draft.set(line).err()
            };
        }
        false
    }

    fn end_request(&mut self) -> Result<Box<Request>, Nonsense> {
        let Parser { attributes, draft, nonsense, .. } = std::mem::take(self);
        match nonsense {
            Some(nonsense) => Err(nonsense),
            None if attributes == 0 => Err(Nonsense::Empty),
            None => Ok(Box::new(draft.finish())),
        }
    }
}

/// A request of which some lines are known. Of a repeated attribute the last wins.
#[derive(Debug, Default)]
struct Draft {
    protocol_state: String,
    queue_id: String,
    instance: String,
    client_address: String,
    client_name: String,
    helo_name: String,
    sasl_method: String,
    sasl_username: String,
    sender: String,
    recipient: String,
    recipient_count: u32,
    size: u64,
    dry_run: bool,
}

impl Draft {
    fn set(&mut self, line: &[u8]) -> Result<(), Nonsense> {
        let halves = memchr(b'=', line).and_then(|place| line.split_at_checked(place));
        let (name, value) = match halves {
            Some((name, [_, value @ ..])) if !name.is_empty() => (name, value),
            _ => return Err(Nonsense::NotAnAttribute(clean(line, 64))),
        };
        let field = match name {
            b"protocol_state" => &mut self.protocol_state,
            b"queue_id" => &mut self.queue_id,
            b"instance" => &mut self.instance,
            b"client_address" => &mut self.client_address,
            b"client_name" => &mut self.client_name,
            b"helo_name" => &mut self.helo_name,
            b"sasl_method" => &mut self.sasl_method,
            b"sender" => &mut self.sender,
            b"recipient" => &mut self.recipient,
            b"sasl_username" => {
                self.sasl_username = clean_login(value);
                return Ok(());
            }
            b"recipient_count" => {
                let count = number("recipient_count", value, u64::from(MAX_RECIPIENTS))?;
                self.recipient_count = u32::try_from(count).unwrap_or(MAX_RECIPIENTS);
                return Ok(());
            }
            b"size" => {
                self.size = number("size", value, i64::MAX as u64)?;
                return Ok(());
            }
            b"request" if value != b"smtpd_access_policy" => {
                return Err(Nonsense::NotAPolicyRequest(clean(value, 64)));
            }
            name => {
                self.dry_run |= name == DRY_RUN.as_bytes() && value == b"yes";
                return Ok(());
            }
        };
        *field = clean(value, MAX_SHOWN);
        Ok(())
    }

    fn finish(self) -> Request {
        Request {
            stage: match self.protocol_state.as_str() {
                "RCPT" => Stage::Rcpt,
                "DATA" => Stage::Data,
                "END-OF-MESSAGE" => Stage::EndOfMessage,
                _ => Stage::Other(self.protocol_state.chars().take(32).collect()),
            },
            queue_id: QueueId::parse(&self.queue_id),
            instance: self.instance,
            client_address: self.client_address,
            client_name: self.client_name,
            helo_name: self.helo_name,
            sasl_method: self.sasl_method,
            sasl_username: self.sasl_username,
            sender: self.sender,
            recipient: self.recipient,
            recipient_count: self.recipient_count,
            size: self.size,
            dry_run: self.dry_run,
        }
    }
}

/// An empty value counts as 0, like a missing attribute.
fn number(name: &'static str, value: &[u8], most: u64) -> Result<u64, Nonsense> {
    if value.is_empty() {
        return Ok(0);
    }
    // `parse` alone would take "+5".
    let digits = value.iter().all(u8::is_ascii_digit);
    match str::from_utf8(value).map(str::parse::<u64>) {
        Ok(Ok(number)) if digits && number <= most => Ok(number),
        _ => Err(Nonsense::NotANumber { name, value: clean(value, 64), most }),
    }
}

/// Makes text of what came from the network: at most `most` bytes, valid UTF-8, no control characters.
fn clean(value: &[u8], most: usize) -> String {
    let kept = value.get(..most).unwrap_or(value);
    without_controls(String::from_utf8_lossy(kept).into_owned())
}

/// The same for a login: its control characters are left out, as they are in the key that it is counted by. One of
/// control characters alone still counts as a login.
fn clean_login(value: &[u8]) -> String {
    let kept = value.get(..MAX_LINE).unwrap_or(value);
    let mut login = String::from_utf8_lossy(kept).into_owned();
    login.retain(|character| !character.is_control());
    if login.is_empty() && !value.is_empty() { " ".to_owned() } else { login }
}

/// A text as a request has it: each control character has become `?`.
pub fn without_controls(text: String) -> String {
    // Most values are plain ASCII, where a look at the bytes is enough.
    let plain = |byte: u8| matches!(byte, b' '..=b'~');
    if !text.bytes().all(plain) && text.contains(char::is_control) {
        return text.replace(char::is_control, "?");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse_all(bytes: &[u8]) -> Vec<Event> {
        let mut parser = Parser::default();
        let mut events = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            let (taken, event) = parser.feed(rest);
            rest = &rest[taken..];
            events.extend(event);
        }
        events
    }

    fn parse_one(text: &str) -> Result<Box<Request>, Nonsense> {
        match parse_all(text.as_bytes()).pop() {
            Some(Event::Request(result)) => result,
            other => panic!("no request: {other:?}"),
        }
    }

    #[test]
    fn reads_what_postfix_sends() {
        let request = parse_one(
            "request=smtpd_access_policy\nprotocol_state=DATA\nprotocol_name=ESMTP\nclient_address=2001:db8::1\n\
             client_name=mail.example.com\nhelo_name=[10.0.0.1]\nsender=bounce+a=b@example.com\nrecipient=\n\
             recipient_count=3\nqueue_id=4F9D195432C\ninstance=1a.2b.3c.0\nsize=0\nsasl_method=plain\n\
             sasl_username=jürgen@example.com\nnew_in_postfix_4=x\n\n",
        )
        .unwrap();
        assert_eq!(request.stage, Stage::Data);
        assert_eq!(request.queue_id, QueueId::parse("4F9D195432C"));
        assert_eq!(request.sender, "bounce+a=b@example.com");
        assert_eq!(request.sasl_username, "jürgen@example.com");
        assert_eq!((request.recipient_count, request.recipient.as_str()), (3, ""));
    }

    #[test]
    fn the_last_of_a_repeated_attribute_wins_and_a_missing_one_is_empty() {
        let request = parse_one("protocol_state=RCPT\nsasl_username=a\nsasl_username=b\n\n").unwrap();
        assert_eq!((request.stage.clone(), request.sasl_username.as_str()), (Stage::Rcpt, "b"));
        assert_eq!((request.recipient_count, request.sender.as_str()), (0, ""));
    }

    #[test]
    fn says_what_is_wrong() {
        for (text, nonsense) in [
            ("\n", Nonsense::Empty),
            ("hello\n\n", Nonsense::NotAnAttribute("hello".into())),
            ("=x\n\n", Nonsense::NotAnAttribute("=x".into())),
            ("request=junk\n\n", Nonsense::NotAPolicyRequest("junk".into())),
        ] {
            assert_eq!(parse_one(text), Err(nonsense), "{text:?}");
        }
        for value in ["-1", "abc", "99999999999", "+5", "1000001", "1 "] {
            let result = parse_one(&format!("recipient_count={value}\n\n"));
            assert!(matches!(result, Err(Nonsense::NotANumber { .. })), "{value}: {result:?}");
        }
        assert_eq!(parse_one(&("a=b\n".repeat(MAX_ATTRIBUTES + 1) + "\n")), Err(Nonsense::TooManyAttributes));
    }

    #[test]
    fn a_long_line_is_cut_and_still_counts() {
        let request = parse_one(&format!("helo_name={}\nsasl_username=alice\n\n", "x".repeat(20_000))).unwrap();
        assert_eq!((request.helo_name.len(), request.sasl_username.as_str()), (MAX_SHOWN, "alice"));
        let request = parse_one(&format!("sasl_username={}\n\n", "x".repeat(4_000))).unwrap();
        assert_eq!(request.sasl_username.len(), 4_000);
    }

    #[test]
    fn what_never_ends_is_cut_off_at_the_bound() {
        let mut parser = Parser::default();
        let (taken, event) = parser.feed(&vec![b'x'; MAX_REQUEST]);
        assert_eq!((taken, event), (MAX_REQUEST, None));
        assert_eq!(parser.feed(b"x").1, Some(Event::Endless));
        assert!(parser.line.len() <= MAX_LINE, "only a line's worth is kept");
    }

    #[test]
    fn the_bound_is_the_same_for_one_piece_and_for_single_bytes() {
        for length in [MAX_REQUEST - 2, MAX_REQUEST - 1, MAX_REQUEST] {
            for end in [&b"\n"[..], b"\r\n"] {
                let bytes = [&b"x=12345\n".repeat(length / 8), &vec![b'y'; length % 8][..], b"\n", end].concat();
                let single: Vec<bool> = {
                    let mut parser = Parser::default();
                    let events = bytes.chunks(1).filter_map(|byte| parser.feed(byte).1);
                    events.map(|event| event == Event::Endless).take(1).collect()
                };
                let whole = Parser::default().feed(&bytes).1 == Some(Event::Endless);
                assert_eq!([whole], single[..], "{} bytes", bytes.len());
                assert_eq!(whole, bytes.len() > MAX_REQUEST);
            }
        }
    }

    #[test]
    fn control_characters_and_bytes_that_are_not_utf_8_become_harmless() {
        match &parse_all(b"sender=a\0\x1b[31mb\xff\n\n")[..] {
            [Event::Request(Ok(request))] => assert_eq!(request.sender, "a??[31mb\u{fffd}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_login_is_what_can_be_seen_of_it() {
        for (sent, login) in [("alice\t", "alice"), ("\u{1}al\u{7f}ice", "alice"), ("\t", " "), ("", "")] {
            let request = parse_one(&format!("protocol_state=RCPT\nsasl_username={sent}\n\n")).unwrap();
            assert_eq!(request.sasl_username, login, "{sent:?}");
        }
    }

    #[test]
    fn several_requests_in_one_read_come_in_order() {
        let events = parse_all(b"sender=a\n\nsender=b\r\n\r\nsender=c\n");
        let senders: Vec<_> = events
            .iter()
            .map(|event| match event {
                Event::Request(Ok(request)) => request.sender.as_str(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(senders, ["a", "b"], "the third has not ended");
    }

    proptest! {
        #[test]
        fn chunking_changes_nothing(bytes in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'='), any::<u8>()], 0..300),
                                    cuts in proptest::collection::vec(1usize..40, 1..30)) {
            let whole = parse_all(&bytes);
            let mut parser = Parser::default();
            let mut events = Vec::new();
            let mut rest = &bytes[..];
            let mut cuts = cuts.iter().cycle();
            while !rest.is_empty() {
                let chunk = &rest[..rest.len().min(*cuts.next().unwrap())];
                let (taken, event) = parser.feed(chunk);
                prop_assert!(taken > 0 && taken <= chunk.len());
                rest = &rest[taken..];
                events.extend(event);
            }
            prop_assert_eq!(whole, events);
        }

        #[test]
        fn no_control_character_gets_in(value in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut bytes = b"sender=".to_vec();
            bytes.extend(value.iter().filter(|&&byte| byte != b'\n'));
            bytes.extend(b"\n\n");
            for event in parse_all(&bytes) {
                if let Event::Request(Ok(request)) = event {
                    prop_assert!(!request.sender.contains(char::is_control));
                }
            }
        }
    }
}
