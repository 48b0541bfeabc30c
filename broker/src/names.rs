//! Names that RocketMQ gives a meaning to.

/// A topic from which new ones are made when somebody sends to a topic that is not there.
pub(crate) const AUTO_CREATE: &str = "TBW102";
/// Delayed messages wait in it, one queue for each level.
pub(crate) const SCHEDULE: &str = "SCHEDULE_TOPIC_XXXX";
/// Halves of transactions wait in it.
pub(crate) const HALF: &str = "RMQ_SYS_TRANS_HALF_TOPIC";
/// What became of them.
pub(crate) const HALF_DONE: &str = "RMQ_SYS_TRANS_OP_HALF_TOPIC";
/// Halves that were asked about too often.
pub(crate) const CHECKED_TOO_OFTEN: &str = "TRANS_CHECK_MAX_TIME_TOPIC";
/// Messages for any time wait in it.
pub(crate) const TIMER: &str = "rmq_sys_wheel_timer";

const RETRY_PREFIX: &str = "%RETRY%";
const DEAD_PREFIX: &str = "%DLQ%";
/// No topic has a longer name, in bytes.
const TOPIC_MOST: usize = 127;
/// No group has a longer name: with `%RETRY%` it is a topic's.
const GROUP_MOST: usize = 120;

/// Topics that nobody may send to.
const FORBIDDEN: [&str; 6] =
    [SCHEDULE, HALF, HALF_DONE, CHECKED_TOO_OFTEN, TIMER, "OFFSET_MOVED_EVENT"];

/// Where a group's messages come back from.
pub(crate) fn retry_topic(group: &str) -> String {
    format!("{RETRY_PREFIX}{group}")
}

/// Where a group's messages end that were given back too often.
pub(crate) fn dead_letter_topic(group: &str) -> String {
    format!("{DEAD_PREFIX}{group}")
}

/// The group whose messages come back by this topic.
pub(crate) fn group_of_retry_topic(topic: &str) -> Option<&str> {
    topic.strip_prefix(RETRY_PREFIX)
}

/// Whether it is a group's topic of retries or dead letters, which come into being as needed.
pub(crate) fn is_of_group(topic: &str) -> bool {
    topic.starts_with(RETRY_PREFIX) || topic.starts_with(DEAD_PREFIX)
}

/// Whether only the broker itself writes to it.
pub(crate) fn is_forbidden(topic: &str) -> bool {
    FORBIDDEN.contains(&topic)
}

/// Why a topic cannot have that name, if so.
pub(crate) fn check_topic(name: &str) -> Result<(), String> {
    check("topic", name, TOPIC_MOST)
}

/// Why a group cannot have that name, if so.
pub(crate) fn check_group(name: &str) -> Result<(), String> {
    check("group", name, GROUP_MOST)
}

fn check(what: &str, name: &str, most: usize) -> Result<(), String> {
    if name.is_empty() {
        return Err(format!("the {what}'s name is empty"));
    }
    if name.len() > most {
        return Err(format!("the {what}'s name has {} bytes, at most {most}", name.len()));
    }
    check_characters(name).map_err(|bad| {
        format!("the {what}'s name holds {bad:?}; allowed are letters, digits and %|-_: {name}")
    })
}

fn check_characters(name: &str) -> Result<(), char> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "%|-_".contains(c);
    name.chars().find(|c| !allowed(*c)).map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_as_rocketmq_does() {
        assert_eq!(check_topic("%RETRY%g_1-a|b"), Ok(()));
        assert_eq!(check_topic(&"t".repeat(127)), Ok(()));
        for name in ["", "a b", "a/b", "\u{fc}", "a\0", &"t".repeat(128)] {
            assert!(check_topic(name).is_err(), "{name:?}");
        }
        assert_eq!(check_group(&"g".repeat(120)), Ok(()));
        assert!(check_group(&"g".repeat(121)).is_err() && check_group("a/b").is_err());
        assert_eq!(check_topic(&retry_topic(&"g".repeat(120))), Ok(()));
        assert_eq!(group_of_retry_topic(&retry_topic("g")), Some("g"));
        assert!(is_of_group(&dead_letter_topic("g")) && !is_of_group("g"));
    }
}
