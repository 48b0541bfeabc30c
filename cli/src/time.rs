//! Times and durations as the command line gives them.

use std::time::Duration;

use jiff::{Timestamp, tz::TimeZone};
use steadfast::StoreTime;

/// Milliseconds since 1970, or RFC 3339.
pub(crate) fn parse_time(text: &str) -> Result<StoreTime, String> {
    if let Ok(millis) = text.parse() {
        return Ok(StoreTime::from_millis(millis));
    }
    match text.parse::<Timestamp>() {
        Ok(time) => Ok(StoreTime::from_millis(time.as_millisecond())),
        Err(e) => Err(format!(
            "neither milliseconds since 1970 nor a time such as 2026-11-22T15:04:05Z: {e}"
        )),
    }
}

/// How far local time is ahead of UTC now, as `TZ` or the system says; 0 where neither does.
pub(crate) fn utc_offset_minutes() -> i16 {
    offset_minutes(&TimeZone::system(), Timestamp::now())
}

fn offset_minutes(zone: &TimeZone, at: Timestamp) -> i16 {
    i16::try_from(zone.to_offset(at).seconds().div_euclid(60)).unwrap_or(0)
}

/// A number with one of the units ms, s, m, h, d.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(at);
    let millis: u64 = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err("a duration is a number with ms, s, m, h or d, such as 500ms".into()),
    };
    let number: u64 = digits.parse().map_err(|_| format!("not a number: {digits:?}"))?;
    let millis = number.checked_mul(millis).ok_or("too long")?;
    Ok(Duration::from_millis(millis))
}

/// A number of bytes, with K, M, G (powers of 1024) or nothing behind it.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'K' | b'k') => (&text[..text.len() - 1], 10),
        Some(b'M' | b'm') => (&text[..text.len() - 1], 20),
        Some(b'G' | b'g') => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let number: u64 = match digits.parse() {
        Ok(number) if !digits.starts_with('+') => number,
        _ => return Err("a size is a number of bytes, or one with K, M or G, such as 64M".into()),
    };
    number.checked_mul(1 << shift).ok_or_else(|| "too large".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_milliseconds_or_rfc_3339() {
        assert_eq!(parse_time("1700000000007").unwrap().as_millis(), 1_700_000_000_007);
        let zoned = parse_time("2023-11-15T00:13:20.007+02:00").unwrap();
        assert_eq!(zoned.as_millis(), 1_700_000_000_007);
        assert!(parse_time("yesterday").is_err());
    }

    #[test]
    fn local_time_is_ahead_of_utc_as_the_zone_says_for_that_day() {
        let berlin = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let nepal = TimeZone::posix("<+0545>-5:45").unwrap();
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        assert_eq!(offset_minutes(&berlin, at("2026-11-23T04:00:00Z")), 60);
        assert_eq!(offset_minutes(&berlin, at("2026-07-23T04:00:00Z")), 120);
        assert_eq!(offset_minutes(&nepal, at("2026-07-23T04:00:00Z")), 345);
        assert_eq!(offset_minutes(&TimeZone::UTC, at("2026-07-23T04:00:00Z")), 0);
    }

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(parse_duration("500ms").unwrap(), Duration::from_millis(500));
        assert_eq!(parse_duration("72h").unwrap(), Duration::from_secs(72 * 3600));
        for text in ["", "5", "s", "-1s", "1.5s", "5 s", "99999999999999999999s"] {
            assert!(parse_duration(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn sizes_are_bytes_or_powers_of_1024() {
        assert_eq!(parse_size("65536").unwrap(), 65536);
        assert_eq!(parse_size("64K").unwrap(), 65536);
        assert_eq!(parse_size("1G").unwrap(), 1 << 30);
        for text in ["", "K", "-1", "+1", "1T", "1.5M", "99999999999G"] {
            assert!(parse_size(text).is_err(), "{text:?}");
        }
    }
}
