//! The properties of a message in their stored form: name, byte 1, value, byte 2.

pub(crate) const DELAY: &str = "DELAY";
pub(crate) const ORIGIN_MESSAGE_ID: &str = "ORIGIN_MESSAGE_ID";
pub(crate) const PRODUCER_GROUP: &str = "PGROUP";
pub(crate) const REAL_QUEUE: &str = "REAL_QID";
pub(crate) const REAL_TOPIC: &str = "REAL_TOPIC";
pub(crate) const RETRY_TOPIC: &str = "RETRY_TOPIC";
pub(crate) const TRANSACTION_CHECKS: &str = "TRANSACTION_CHECK_TIMES";
pub(crate) const TRANSACTION_PREPARED: &str = "TRAN_MSG";
pub(crate) const UNIQUE_KEY: &str = "UNIQ_KEY";
pub(crate) const WAIT: &str = "WAIT";
/// What a broker tells of itself.
pub(crate) const REGION: &str = "MSG_REGION";
pub(crate) const TRACE: &str = "TRACE_ON";
pub(crate) const CLUSTER: &str = "CLUSTER";
/// What the properties begin with that give a message a time.
pub(crate) const TIMER_PREFIX: &str = "TIMER_";
/// The engine writes and checks it; it belongs to one record only.
const RECORD_CRC: &str = "__CRC32#";

const NAME_ENDS: char = '\u{1}';
const PAIR_ENDS: char = '\u{2}';

/// All properties, in their order. What is no pair is passed by, as RocketMQ does.
pub(crate) fn iter(encoded: &str) -> impl Iterator<Item = (&str, &str)> {
    encoded.split(PAIR_ENDS).filter_map(|pair| {
        let (name, value) = pair.split_once(NAME_ENDS)?;
        // A value ends where a third part begins.
        let value = value.split(NAME_ENDS).next().unwrap_or_default();
        Some((name, value))
    })
}

/// The value of a property: the last, if there are several.
pub(crate) fn get<'a>(encoded: &'a str, name: &str) -> Option<&'a str> {
    iter(encoded).filter(|(key, _)| *key == name).last().map(|(_, value)| value)
}

/// Ends the last property, if it is not.
pub(crate) fn end(encoded: &mut String) {
    if encoded.chars().next_back().is_some_and(|last| last != PAIR_ENDS) {
        encoded.push(PAIR_ENDS);
    }
}

/// Adds a property at the end.
pub(crate) fn add(encoded: &mut String, name: &str, value: &str) {
    end(encoded);
    encoded.reserve(name.len() + value.len() + 2);
    encoded.push_str(name);
    encoded.push(NAME_ENDS);
    encoded.push_str(value);
    encoded.push(PAIR_ENDS);
}

/// The properties without those that `gone` names, and without the record's own checksum.
pub(crate) fn without(encoded: &str, gone: &[&str]) -> String {
    let mut kept = String::with_capacity(encoded.len());
    for (name, value) in iter(encoded) {
        if name != RECORD_CRC && !gone.contains(&name) {
            add(&mut kept, name, value);
        }
    }
    kept
}

/// Gives a property the value, in the place of others with that name.
pub(crate) fn set(encoded: &mut String, name: &str, value: &str) {
    if get(encoded, name).is_some() {
        *encoded = without(encoded, &[name]);
    }
    add(encoded, name, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_are_read_added_replaced_and_removed() {
        let mut encoded = String::from("a\u{1}1\u{2}b\u{1}2\u{2}rest");
        assert_eq!(get(&encoded, "b"), Some("2"));
        assert_eq!(get(&encoded, "rest"), None);
        set(&mut encoded, "a", "3");
        set(&mut encoded, "c", "");
        assert_eq!(iter(&encoded).collect::<Vec<_>>(), [("b", "2"), ("a", "3"), ("c", "")]);
        assert_eq!(without(&encoded, &["a", "c"]), "b\u{1}2\u{2}");
        let mut unended = String::from("a\u{1}1");
        add(&mut unended, "b", "2");
        assert_eq!(unended, "a\u{1}1\u{2}b\u{1}2\u{2}");
    }
}
