//! A reader for the JSON that RocketMQ writes: integer keys may be unquoted. Reads what it is
//! asked for and skips the rest; never recurses deeper than a fixed bound.

use std::{borrow::Cow, fmt};

/// How deep objects and arrays may be nested.
const MAX_DEPTH: u32 = 32;

/// What is broken in a JSON text, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JsonError {
    /// The byte at which reading stopped.
    pub at: usize,
    /// What is wrong there.
    pub what: &'static str,
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the JSON is broken: {} at={}", self.what, self.at)
    }
}

impl std::error::Error for JsonError {}

type Result<T> = std::result::Result<T, JsonError>;

pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: u32,
}

impl<'a> Reader<'a> {
    pub(super) fn of(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, depth: 0 }
    }

    pub(super) fn error<T>(&self, what: &'static str) -> Result<T> {
        Err(JsonError { at: self.at, what })
    }

    /// Reads an object: `field` gets each key and must read or [skip](Self::skip) its value. A
    /// `null` is an object without fields.
    pub(super) fn object(
        &mut self,
        mut field: impl FnMut(&mut Self, &str) -> Result<()>,
    ) -> Result<()> {
        if self.null() {
            return Ok(());
        }
        self.expect(b'{', "an object must begin here")?;
        self.enter()?;
        if !self.next_is(b'}') {
            loop {
                let key = self.key()?;
                self.expect(b':', "a colon must follow a key")?;
                field(self, &key)?;
                if self.next_is(b'}') {
                    break;
                }
                self.expect(b',', "an object must go on with a comma or end here")?;
            }
        }
        self.depth -= 1;
        Ok(())
    }

    /// Reads an integer. A `null` is 0.
    pub(super) fn integer(&mut self) -> Result<i64> {
        if self.null() {
            return Ok(0);
        }
        self.space();
        let text = self.scalar();
        match str::from_utf8(text).ok().and_then(|text| text.parse().ok()) {
            Some(value) if !text.starts_with(b"+") => {
                self.at += text.len();
                Ok(value)
            }
            _ => self.error("an integer of at most 64 bits must be here"),
        }
    }

    /// Reads any value and forgets it.
    pub(super) fn skip(&mut self) -> Result<()> {
        self.space();
        match self.bytes.get(self.at) {
            Some(b'{') => self.object(|reader, _| reader.skip()),
            Some(b'[') => {
                self.at += 1;
                self.enter()?;
                if !self.next_is(b']') {
                    loop {
                        self.skip()?;
                        if self.next_is(b']') {
                            break;
                        }
                        self.expect(b',', "an array must go on with a comma or end here")?;
                    }
                }
                self.depth -= 1;
                Ok(())
            }
            Some(b'"') => self.string().map(drop),
            _ => {
                let text = self.scalar();
                let known = matches!(text, b"true" | b"false" | b"null");
                let number = || str::from_utf8(text).is_ok_and(|text| text.parse::<f64>().is_ok());
                let plain = text.iter().all(|b| b.is_ascii_digit() || b"+-.eE".contains(b));
                if !(known || plain && number()) {
                    return self.error("no value");
                }
                self.at += text.len();
                Ok(())
            }
        }
        .inspect(|()| debug_assert!(self.depth <= MAX_DEPTH))
    }

    /// Checks that nothing but white space is left.
    pub(super) fn end(&mut self) -> Result<()> {
        self.space();
        if self.at < self.bytes.len() { self.error("something follows the end") } else { Ok(()) }
    }

    fn key(&mut self) -> Result<Cow<'a, str>> {
        self.space();
        if self.bytes.get(self.at) == Some(&b'"') {
            return self.string();
        }
        let text = self.scalar();
        let digits = text.strip_prefix(b"-").unwrap_or(text);
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return self.error("a key must be a string or an integer");
        }
        self.at += text.len();
        Ok(String::from_utf8_lossy(text))
    }

    fn string(&mut self) -> Result<Cow<'a, str>> {
        self.expect(b'"', "a string must begin here")?;
        let mut text = Vec::new();
        let start = self.at;
        loop {
            let Some(&byte) = self.bytes.get(self.at) else {
                return self.error("the text ends inside of a string");
            };
            match byte {
                b'"' => break,
                b'\\' => {
                    // The first escape: from here on the text is put together.
                    if text.is_empty() {
                        text.extend_from_slice(&self.bytes[start..self.at]);
                    }
                    self.escape(&mut text)?;
                    continue;
                }
                0..0x20 => return self.error("a control character in a string"),
                _ if !text.is_empty() => text.push(byte),
                _ => {}
            }
            self.at += 1;
        }
        let text = match text.is_empty() {
            true => str::from_utf8(&self.bytes[start..self.at]).ok().map(Cow::Borrowed),
            false => String::from_utf8(text).ok().map(Cow::Owned),
        };
        let Some(text) = text else { return self.error("a string that is not UTF-8 ends here") };
        self.at += 1;
        Ok(text)
    }

    fn escape(&mut self, text: &mut Vec<u8>) -> Result<()> {
        let Some(&kind) = self.bytes.get(self.at + 1) else { return self.error("a cut escape") };
        let plain = match kind {
            b'"' | b'\\' | b'/' | b'\'' => kind,
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let mut units = vec![self.unit(self.at)?];
                self.at += 6;
                // A second half of a pair follows as an escape of its own.
                if (0xD800..0xDC00).contains(&units[0]) {
                    units.push(self.unit(self.at)?);
                    self.at += 6;
                }
                let Ok(decoded) = String::from_utf16(&units) else {
                    return self.error("half of a surrogate pair ends here");
                };
                text.extend_from_slice(decoded.as_bytes());
                return Ok(());
            }
            _ => return self.error("an unknown escape"),
        };
        text.push(plain);
        self.at += 2;
        Ok(())
    }

    /// The UTF-16 unit of the escape `\uXXXX` at `at`.
    fn unit(&self, at: usize) -> Result<u16> {
        match self.bytes.get(at..at + 6) {
            Some([b'\\', b'u', hex @ ..]) if hex.iter().all(u8::is_ascii_hexdigit) => {
                let digit = |unit, &b| unit << 4 | (b as char).to_digit(16).unwrap_or(0) as u16;
                Ok(hex.iter().fold(0, digit))
            }
            _ => Err(JsonError { at, what: "four hexadecimal digits must follow" }),
        }
    }

    /// What is here up to the next structural character or white space; not passed over.
    fn scalar(&self) -> &'a [u8] {
        let rest = &self.bytes[self.at..];
        let ends = |&b: &u8| b.is_ascii_whitespace() || b",:{}[]\"".contains(&b);
        &rest[..rest.iter().position(ends).unwrap_or(rest.len())]
    }

    fn null(&mut self) -> bool {
        self.space();
        let found = self.scalar() == b"null";
        self.at += if found { 4 } else { 0 };
        found
    }

    fn enter(&mut self) -> Result<()> {
        if self.depth == MAX_DEPTH {
            return self.error("nested too deep");
        }
        self.depth += 1;
        Ok(())
    }

    fn next_is(&mut self, wanted: u8) -> bool {
        self.space();
        let found = self.bytes.get(self.at) == Some(&wanted);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, wanted: u8, what: &'static str) -> Result<()> {
        if self.next_is(wanted) { Ok(()) } else { self.error(what) }
    }

    fn space(&mut self) {
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
    }
}

/// Appends `text` as a JSON string.
pub(super) fn write_string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{0}'..='\u{1F}' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
}
