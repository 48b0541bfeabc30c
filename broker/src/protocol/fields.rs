//! The named strings of a header (`extFields`).

use std::{fmt, ops::Range, str::FromStr};

/// Names and values of one header, in one piece of memory. A name that is given twice has its last
/// value.
#[derive(Clone, Default)]
pub(crate) struct Fields {
    text: String,
    spans: Vec<(Range<u32>, Range<u32>)>,
}

/// A field that the request needs is missing, or is not what it has to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BadField {
    name: &'static str,
    value: Option<String>,
}

impl fmt::Display for BadField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            None => write!(f, "the request lacks the header field {}", self.name),
            Some(value) => write!(f, "the header field {} cannot be {value:?}", self.name),
        }
    }
}

impl std::error::Error for BadField {}

impl Fields {
    /// None yet, with room for so many bytes of names and values.
    pub(super) fn with_room(bytes: usize) -> Self {
        // A send has a dozen.
        Self { text: String::with_capacity(bytes), spans: Vec::with_capacity(16) }
    }

    /// Adds one more.
    pub(super) fn push(&mut self, name: &str, value: &str) {
        let name = self.keep(name);
        let value = self.keep(value);
        self.spans.push((name, value));
    }

    /// Takes a string in; [`pair`](Self::pair) makes two of them a field.
    pub(super) fn keep(&mut self, text: &str) -> Range<u32> {
        // A frame is far below 4 GiB.
        let start = self.text.len() as u32;
        self.text.push_str(text);
        start..self.text.len() as u32
    }

    /// Makes what was [kept](Self::keep) a field.
    pub(super) fn pair(&mut self, name: Range<u32>, value: Range<u32>) {
        self.spans.push((name, value));
    }

    fn text(&self, span: &Range<u32>) -> &str {
        &self.text[span.start as usize..span.end as usize]
    }

    /// The value of a field.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        // Most names have one letter: their first bytes tell them apart, without a call for each.
        let all = self.text.as_bytes();
        let is_it = |span: &Range<u32>| {
            let key = &all[span.start as usize..span.end as usize];
            key.len() == name.len() && key.first() == name.as_bytes().first() && {
                key.len() <= 1 || key == name.as_bytes()
            }
        };
        let found = self.spans.iter().rev().find(|(key, _)| is_it(key));
        found.map(|(_, value)| self.text(value))
    }

    /// All of them, in their order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.spans.iter().map(|(name, value)| (self.text(name), self.text(value)))
    }

    /// The value of a field that has to be there.
    pub(crate) fn need(&self, name: &'static str) -> Result<&str, BadField> {
        self.get(name).ok_or(BadField { name, value: None })
    }

    /// The value of a field that has to be there, as a number or the like.
    pub(crate) fn parse<T: FromStr>(&self, name: &'static str) -> Result<T, BadField> {
        let value = self.need(name)?;
        value.trim().parse().map_err(|_| BadField { name, value: Some(shortened(value)) })
    }

    /// The value of a field, `default` if it is missing or empty.
    pub(crate) fn parse_or<T: FromStr>(
        &self,
        name: &'static str,
        default: T,
    ) -> Result<T, BadField> {
        match self.get(name) {
            None | Some("") => Ok(default),
            Some(_) => self.parse(name),
        }
    }
}

/// What can be told of a value in an error.
fn shortened(value: &str) -> String {
    value.chars().take(64).collect()
}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_parsed_and_missed_by_name() {
        let mut fields = Fields::default();
        for (name, value) in [("queueId", "3"), ("topic", "T"), ("empty", ""), ("topic", "U")] {
            fields.push(name, value);
        }
        assert_eq!(fields.need("topic"), Ok("U"));
        assert_eq!(fields.parse::<i32>("queueId"), Ok(3));
        assert_eq!(fields.parse_or("empty", 7), Ok(7));
        assert_eq!(fields.parse_or("none", 7), Ok(7));
        let missing = fields.parse::<i64>("none").unwrap_err().to_string();
        assert_eq!(missing, "the request lacks the header field none");
        let wrong = fields.parse::<i64>("topic").unwrap_err().to_string();
        assert_eq!(wrong, "the header field topic cannot be \"U\"");
    }
}
