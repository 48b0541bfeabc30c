//! The words of a condition.

use super::Value;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// A reserved word, in capitals.
    Word(&'static str),
    Name(String),
    Literal(Value<'static>),
    /// One of `( ) , = <> < <= > >= + -`.
    Sign(&'static str),
    End,
}

const WORDS: [&str; 12] = [
    "NOT",
    "AND",
    "OR",
    "BETWEEN",
    "IN",
    "TRUE",
    "FALSE",
    "NULL",
    "IS",
    "CONTAINS",
    "STARTSWITH",
    "ENDSWITH",
];
/// A longer one before its beginning.
const SIGNS: [&str; 11] = ["<>", "<=", ">=", "<", ">", "=", "(", ")", ",", "+", "-"];

/// Takes a text apart. Gives with each token where it begins.
///
/// # Errors
///
/// Where something begins that is none.
pub(super) fn tokens(text: &str) -> Result<Vec<(usize, Token)>, String> {
    let mut all = Vec::new();
    let mut rest = text;
    loop {
        rest = past_spaces(rest)?;
        let at = text.len() - rest.len();
        let Some(first) = rest.chars().next() else {
            all.push((at, Token::End));
            return Ok(all);
        };
        let (token, length) = match first {
            '\'' => string(rest)?,
            '0'..='9' | '.' => number(rest).ok_or_else(|| format!("no number at {at}"))?,
            'a'..='z' | 'A'..='Z' | '_' | '$' => name(rest),
            _ => {
                let sign = SIGNS.iter().find(|sign| rest.starts_with(**sign));
                let sign = sign.ok_or_else(|| format!("{first:?} means nothing at {at}"))?;
                (Token::Sign(sign), sign.len())
            }
        };
        all.push((at, token));
        rest = &rest[length..];
    }
}

/// Past spaces and comments.
fn past_spaces(text: &str) -> Result<&str, String> {
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t', '\n', '\r', '\u{c}']);
        if let Some(line) = rest.strip_prefix("--") {
            rest = line.find(['\n', '\r']).map_or("", |end| &line[end..]);
        } else if let Some(block) = rest.strip_prefix("/*") {
            let end = block.find("*/").ok_or("a comment does not end")?;
            rest = &block[end + 2..];
        } else {
            return Ok(rest);
        }
    }
}

/// A text in quotes; a quote in it is written twice.
fn string(text: &str) -> Result<(Token, usize), String> {
    let mut found = String::new();
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if c != '\'' {
            found.push(c);
        } else if chars.next_if(|(_, next)| *next == '\'').is_some() {
            found.push('\'');
        } else {
            return Ok((Token::Literal(Value::Text(found.into())), at + 1));
        }
    }
    Err("a text in quotes does not end".into())
}

fn digits(text: &str) -> usize {
    text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len()
}

fn number(text: &str) -> Option<(Token, usize)> {
    let whole = digits(text);
    let mut end = whole;
    if text[end..].starts_with('.') {
        end += 1 + digits(&text[end + 1..]);
    }
    if end == 1 && whole == 0 {
        return None;
    }
    if text[end..].starts_with(['e', 'E']) {
        let sign = usize::from(text[end + 1..].starts_with(['+', '-']));
        let exponent = digits(&text[end + 1 + sign..]);
        if exponent > 0 {
            end += 1 + sign + exponent;
        }
    }
    let real = || text[..end].parse().ok().map(Value::Real);
    if end > whole {
        return Some((Token::Literal(real()?), end));
    }
    // A number too long for 64 bits is compared as a real one.
    let value = text[..whole].parse().ok().map(Value::Integer).or_else(real)?;
    let suffix = usize::from(text[whole..].starts_with(['l', 'L']));
    Some((Token::Literal(value), whole + suffix))
}

fn name(text: &str) -> (Token, usize) {
    let inside = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '$';
    let length = text.len() - text.trim_start_matches(inside).len();
    let name = &text[..length];
    let token = match WORDS.iter().find(|word| word.eq_ignore_ascii_case(name)) {
        Some(word) => Token::Word(word),
        None => Token::Name(name.to_owned()),
    };
    (token, length)
}
