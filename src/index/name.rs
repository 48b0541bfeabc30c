//! Names of index files: the time of their creation as `yyyyMMddHHmmssSSS`, in UTC.
//!
//! Java writes local time. Only the order of names counts, so a new name is always made greater
//! than the last one.

use crate::{format::index::index_file_name, offset::StoreTime};

const DIGITS: usize = 17;
const DAY_MS: i64 = 86_400_000;

/// Whether a file of that name is an index file.
pub(super) fn is_index_name(name: &str) -> bool {
    name.len() == DIGITS && name.bytes().all(|b| b.is_ascii_digit())
}

/// A name for a file made at `now`, greater than `last`.
pub(super) fn name_after(last: Option<&str>, now: StoreTime) -> String {
    let name = index_file_name(now);
    match last {
        Some(last) if *name <= *last => match parse_millis(last) {
            Some(millis) => index_file_name(StoreTime::from_millis(millis + 1)),
            // Digits that are no time.
            None => format!("{:017}", last.parse::<u64>().map_or(0, |n| n + 1)),
        },
        _ => name,
    }
}

/// The time in a name, `None` if it is none.
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
    (index_file_name(StoreTime::from_millis(millis)) == name).then_some(millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_in_a_name_is_read_back() {
        for day in (-719_528..2_932_896).step_by(7) {
            let millis = day * DAY_MS + 1;
            let name = index_file_name(StoreTime::from_millis(millis));
            assert_eq!(parse_millis(&name), Some(millis));
        }
        assert_eq!(parse_millis("20230229000000000"), None);
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
