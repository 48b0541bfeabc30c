//! The codes of replies, as `ResponseCode` of RocketMQ has them.

pub(crate) const SUCCESS: i32 = 0;
pub(crate) const SYSTEM_ERROR: i32 = 1;
/// The producer turns to another broker, not to this one again.
pub(crate) const SYSTEM_BUSY: i32 = 2;
pub(crate) const REQUEST_CODE_NOT_SUPPORTED: i32 = 3;
pub(crate) const FLUSH_DISK_TIMEOUT: i32 = 10;
pub(crate) const SLAVE_NOT_AVAILABLE: i32 = 11;
pub(crate) const FLUSH_SLAVE_TIMEOUT: i32 = 12;
pub(crate) const MESSAGE_ILLEGAL: i32 = 13;
pub(crate) const SERVICE_NOT_AVAILABLE: i32 = 14;
pub(crate) const NO_PERMISSION: i32 = 16;
pub(crate) const TOPIC_NOT_EXIST: i32 = 17;
/// Nothing new, also after waiting.
pub(crate) const PULL_NOT_FOUND: i32 = 19;
/// There were messages, and the filter wants none of them.
pub(crate) const PULL_RETRY_IMMEDIATELY: i32 = 20;
pub(crate) const PULL_OFFSET_MOVED: i32 = 21;
pub(crate) const QUERY_NOT_FOUND: i32 = 22;
pub(crate) const SUBSCRIPTION_PARSE_FAILED: i32 = 23;
pub(crate) const SUBSCRIPTION_NOT_EXIST: i32 = 24;
pub(crate) const SUBSCRIPTION_GROUP_NOT_EXIST: i32 = 26;
pub(crate) const INVALID_PARAMETER: i32 = 29;
pub(crate) const CONSUMER_NOT_ONLINE: i32 = 206;

/// What RocketMQ calls the answer to a send.
pub(crate) fn name_for_send(code: i32) -> Option<&'static str> {
    Some(match code {
        SUCCESS => "SEND_OK",
        SYSTEM_ERROR => "SYSTEM_ERROR",
        SYSTEM_BUSY => "SYSTEM_BUSY",
        REQUEST_CODE_NOT_SUPPORTED => "REQUEST_CODE_NOT_SUPPORTED",
        FLUSH_DISK_TIMEOUT => "FLUSH_DISK_TIMEOUT",
        SLAVE_NOT_AVAILABLE => "SLAVE_NOT_AVAILABLE",
        FLUSH_SLAVE_TIMEOUT => "FLUSH_SLAVE_TIMEOUT",
        MESSAGE_ILLEGAL => "MESSAGE_ILLEGAL",
        SERVICE_NOT_AVAILABLE => "SERVICE_NOT_AVAILABLE",
        NO_PERMISSION => "NO_PERMISSION",
        TOPIC_NOT_EXIST => "TOPIC_NOT_EXIST",
        INVALID_PARAMETER => "INVALID_PARAMETER",
        _ => return None,
    })
}
