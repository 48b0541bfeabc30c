//! Names of index files: the time of their creation as `yyyyMMddHHmmssSSS`, in UTC.
//!
//! Java writes local time. Only the order of names counts, so a new name is always made greater
//! than the last one.

use crate::offset::StoreTime;

const DIGITS: usize = 17;
const DAY_MS: i64 = 86_400_000;

/// Whether a file of that name is an index file.
pub(super) fn is_index_name(name: &str) -> bool {
    name.len() == DIGITS && name.bytes().all(|b| b.is_ascii_digit())
}

/// A name for a file made at `now`, greater than `last`.
pub(super) fn name_after(last: Option<&str>, now: StoreTime) -> String {
    let name = format_millis(now.as_millis());
    match last {
        Some(last) if *name <= *last => match parse_millis(last) {
            Some(millis) => format_millis(millis + 1),
            // Digits that are no time.
            None => format!("{:017}", last.parse::<u64>().map_or(0, |n| n + 1)),
        },
        _ => name,
    }
}

/// Years 0 to 9999; other times are moved there.
fn format_millis(millis: i64) -> String {
    let millis = millis.clamp(-62_167_219_200_000, 253_402_300_799_999);
    let (day, in_day) = (millis.div_euclid(DAY_MS), millis.rem_euclid(DAY_MS));
    // The proleptic Gregorian calendar in eras of 400 years that begin on 1 March.
    let shifted = day + 719_468;
    let (era, day) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    let (seconds, millis) = (in_day / 1000, in_day % 1000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}{month:02}{day:02}{hour:02}{minute:02}{second:02}{millis:03}")
}

fn parse_millis(name: &str) -> Option<i64> {
    let part = |from: usize, to: usize| name.get(from..to)?.parse::<i64>().ok();
    let (year, month, day) = (part(0, 4)?, part(4, 6)?, part(6, 8)?);
    let (hour, minute, second) = (part(8, 10)?, part(10, 12)?, part(12, 14)?);
    let in_day = ((hour * 60 + minute) * 60 + second) * 1000 + part(14, DIGITS)?;
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, year) = (year.div_euclid(400), year.rem_euclid(400));
    let day = year * 365 + year / 4 - year / 100 + (153 * month + 2) / 5 + day - 1;
    let millis = (era * 146_097 + day - 719_468) * DAY_MS + in_day;
    // Also refuses month 13 and the like.
    (format_millis(millis) == name).then_some(millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_when_the_file_was_made() {
        for (millis, name) in [
            (0, "19700101000000000"),
            (1_709_210_096_789, "20240229123456789"),
            (1_700_000_000_000, "20231114221320000"),
            (-1, "19691231235959999"),
            (i64::MAX, "99991231235959999"),
            (i64::MIN, "00000101000000000"),
        ] {
            assert_eq!(format_millis(millis), name);
            assert_eq!(name_after(None, StoreTime::from_millis(millis)), name);
        }
        for day in (-719_528..2_932_896).step_by(7) {
            let millis = day * DAY_MS + 1;
            assert_eq!(parse_millis(&format_millis(millis)), Some(millis));
        }
    }

    #[test]
    fn a_new_name_is_greater_than_the_last_one() {
        let now = StoreTime::from_millis(0);
        let next = |last| name_after(Some(last), now);
        assert_eq!(next("19691231235959999"), "19700101000000000");
        assert_eq!(next("19700101000000000"), "19700101000000001");
        assert_eq!(next("20240228235959999"), "20240229000000000");
        assert_eq!(next("20231399999999999"), "20231400000000000");
    }
}
