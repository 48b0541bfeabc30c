//! How long a process kept processors busy.

use std::{fs, time::Duration};

use crate::exit::Failure;

/// The time that processors spent on a process until now, its own and the kernel's for it.
pub(super) fn of(pid: u32) -> Result<Duration, Failure> {
    let file = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&file)
        .map_err(|e| Failure::Blocked(format!("{file}: {e}; is {pid} the broker's process?")))?;
    let ticks = ticks(&text)
        .ok_or_else(|| Failure::Blocked(format!("{file} does not tell the time of processors")))?;
    let per_second = rustix::param::clock_ticks_per_second();
    Ok(Duration::from_secs_f64(ticks as f64 / per_second.max(1) as f64))
}

/// `utime` and `stime`. What comes before is the program's name, which may hold anything.
fn ticks(stat: &str) -> Option<u64> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut fields = behind_name.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    user.checked_add(system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_brackets_moves_no_field() {
        let stat = "71 (a ) S 9 (b)) S 1 71 71 0 -1 4194304 9 0 0 0 120 34 5 6 20 0 1 0 7 8 9";
        assert_eq!(ticks(stat), Some(154));
        assert_eq!(ticks("71 (a) S 1"), None);
        assert_eq!(ticks(""), None);
    }
}
