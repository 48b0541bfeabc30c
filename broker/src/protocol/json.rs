//! JSON bodies as RocketMQ's programs really write them: with numbers as names of members.

use std::borrow::Cow;

use serde::de::DeserializeOwned;

/// Reads a body. Names of members may be numbers without quotes.
///
/// # Errors
///
/// What is wrong with it, and where.
pub(crate) fn read<T: DeserializeOwned>(body: &[u8]) -> serde_json::Result<T> {
    serde_json::from_slice(&with_quoted_names(body))
}

/// Puts quotes around names that are bare numbers. Borrows where there are none.
fn with_quoted_names(json: &[u8]) -> Cow<'_, [u8]> {
    let mut quoted: Option<Vec<u8>> = None;
    let mut copied = 0;
    let mut in_string = false;
    let mut at = 0;
    // Whether a name may begin here.
    let mut begins = false;
    while at < json.len() {
        let byte = json[at];
        if in_string {
            match byte {
                b'\\' => at += 1,
                b'"' => in_string = false,
                _ => {}
            }
            at += 1;
            continue;
        }
        match byte {
            b'"' => (in_string, begins) = (true, false),
            b'{' | b',' => begins = true,
            b'-' | b'0'..=b'9' if begins => {
                let len = json[at..].iter().take_while(|b| matches!(b, b'-' | b'0'..=b'9')).count();
                let rest = json[at + len..].trim_ascii_start();
                if rest.first() == Some(&b':') {
                    let out = quoted.get_or_insert_with(|| Vec::with_capacity(json.len() + 64));
                    out.extend_from_slice(&json[copied..at]);
                    out.push(b'"');
                    out.extend_from_slice(&json[at..at + len]);
                    out.push(b'"');
                    copied = at + len;
                }
                at += len;
                begins = false;
                continue;
            }
            _ if byte.is_ascii_whitespace() => {}
            _ => begins = false,
        }
        at += 1;
    }
    match quoted {
        None => Cow::Borrowed(json),
        Some(mut out) => {
            out.extend_from_slice(&json[copied..]);
            Cow::Owned(out)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quoted(text: &str) -> String {
        String::from_utf8(with_quoted_names(text.as_bytes()).into_owned()).unwrap()
    }

    #[test]
    fn bare_numbers_become_names_and_nothing_else_changes() {
        for (given, expected) in [
            (r#"{0:1,1 : 2, "a":{-1:[1,2,3]}}"#, r#"{"0":1,"1" : 2, "a":{"-1":[1,2,3]}}"#),
            (r#"{"a":"{0:1}","b":[0,1],"c":"\"{0:"}"#, r#"{"a":"{0:1}","b":[0,1],"c":"\"{0:"}"#),
            (r#"[1,2,{3:4}]"#, r#"[1,2,{"3":4}]"#),
            ("", ""),
            ("{\"", "{\""),
            ("{\"a\\", "{\"a\\"),
        ] {
            assert_eq!(quoted(given), expected);
        }
        assert!(matches!(with_quoted_names(b"{\"a\":1}"), Cow::Borrowed(_)));
    }
}
