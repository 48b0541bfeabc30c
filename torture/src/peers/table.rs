//! The table, as Markdown and as JSON lines.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use super::{
    outcome::{Counts, Outcome, Row, Sum},
    peer::OURS,
};

/// One line for people who watch.
pub(crate) fn line(row: &Row) -> String {
    let o = &row.outcome;
    let note = if o.note.is_empty() { String::new() } else { format!(" ({})", o.note) };
    format!("{:<11} {:<44} {}{note}", row.peer, row.fault.label(), cell(o))
}

/// What a store made of a fault, in one cell.
fn cell(o: &Outcome) -> String {
    let mut words = Vec::new();
    if let Some(how) = &o.silent {
        words.push(how.clone());
    }
    words.push(match (&o.refused, o.said.len()) {
        (Some(_), _) => "refuses".to_owned(),
        (None, 0) if o.said_later.is_empty() => "says nothing".to_owned(),
        (None, 0) => "a line later".to_owned(),
        (None, _) => "says so".to_owned(),
    });
    let c = &o.by_queue;
    for (count, what) in [
        (c.wrong, "wrong"),
        (c.lost, if o.accepted { "given up" } else { "lost" }),
        (c.error, "named"),
        (o.shut(), "shut"),
        (o.wrong().saturating_sub(c.wrong), "wrong by position or key"),
        (o.by_key.lost.saturating_sub(c.lost + c.error), "not found by key"),
        (o.twice, "offsets twice"),
        (o.extra, "that nobody put"),
    ] {
        if count > 0 {
            words.push(format!("{count} {what}"));
        }
    }
    if !o.positions.is_empty() && o.positions != "right" {
        words.push(format!("positions: {}", o.positions));
    }
    words.join(", ")
}

fn peers(rows: &[Row]) -> Vec<String> {
    let mut peers: Vec<String> = Vec::new();
    for row in rows {
        if !peers.contains(&row.peer) {
            peers.push(row.peer.clone());
        }
    }
    peers
}

/// A case as it stands in the full table.
fn case(o: &Outcome) -> String {
    match &*o.note {
        "" => cell(o),
        note => format!("{}; {note}", cell(o)),
    }
}

/// The cases of our store that `committed`, a full table, tells otherwise. Numbers may differ, as
/// long as none of them is zero.
pub(crate) fn differences(rows: &[Row], committed: &str) -> Vec<String> {
    let cells = |line: &str| line.split(" | ").map(str::to_owned).collect::<Vec<_>>();
    let mut lines = committed.lines().map(cells);
    let column = lines.next().and_then(|head| head.iter().position(|cell| cell == OURS));
    let column = column.unwrap_or(usize::MAX);
    let told: BTreeMap<_, _> = lines
        .filter_map(|cells| {
            let label = cells.first()?.trim_start_matches("| ").to_owned();
            Some((label, cells.get(column)?.trim_end_matches(" |").to_owned()))
        })
        .collect();
    let mut different = Vec::new();
    for row in rows.iter().filter(|row| row.ours) {
        let (label, now) = (row.fault.label(), case(&row.outcome));
        let before = told.get(&label).map_or("(not there)", String::as_str);
        if counted(before) != counted(&now) {
            different.push(format!("{label}: was: {before}; is: {now}"));
        }
    }
    different
}

/// Each number but zero as `#`.
fn counted(text: &str) -> String {
    let words = text.split(' ').map(|word| match word.parse::<u64>() {
        Ok(1..) => "#",
        _ => word,
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Every case.
pub(crate) fn full(rows: &[Row]) -> String {
    let peers = peers(rows);
    let mut text = format!("| fault | touched | {} |\n|---|---|", peers.join(" | "));
    text.push_str(&"---|".repeat(peers.len()));
    let faults: BTreeSet<_> = rows.iter().map(|row| &row.fault).collect();
    for fault in faults {
        let of = |peer: &String| rows.iter().find(|r| r.fault == *fault && r.peer == *peer);
        let touched = peers.iter().filter_map(of).map(|row| row.outcome.touched).max();
        let _ = write!(text, "\n| {} | {} |", fault.label(), touched.unwrap_or(0));
        for peer in &peers {
            let cell = of(peer).map_or("(not there)".to_owned(), |row| case(&row.outcome));
            let _ = write!(text, " {cell} |");
        }
    }
    text.push('\n');
    text
}

/// One line a fault, the worst of its cases.
pub(crate) fn summary(rows: &[Row]) -> String {
    let peers = peers(rows);
    let mut sums: BTreeMap<(usize, &str), BTreeMap<&str, Sum>> = BTreeMap::new();
    for row in rows.iter().filter(|row| !row.at_runtime) {
        let of_fault = sums.entry((row.fault.order, &row.fault.name)).or_default();
        of_fault.entry(&row.peer).or_default().add(&row.outcome);
    }
    let mut text = format!("| fault | {} |\n|---|", peers.join(" | "));
    text.push_str(&"---|".repeat(peers.len()));
    for ((_, name), of_fault) in &sums {
        let _ = write!(text, "\n| {} |", name.replace('-', " "));
        for peer in &peers {
            // What is not found by key in an undamaged store either is told there.
            let usual = sums.first_key_value().and_then(|(_, all)| all.get(&**peer));
            let usual = usual.and_then(|sum| sum.most.get("unindexed")).copied().unwrap_or(0);
            let usual = if *name == "nothing" { 0 } else { usual };
            let cell = of_fault.get(&**peer);
            let cell = cell.map_or("(has none)".to_owned(), |cell| sum(cell, usual));
            let _ = write!(text, " {cell} |");
        }
    }
    text.push('\n');
    text
}

/// What came of the faults while a store was open.
pub(crate) fn runtime(rows: &[Row]) -> String {
    let mut rows: Vec<_> = rows.iter().filter(|row| row.at_runtime).collect();
    rows.sort_by(|a, b| a.fault.cmp(&b.fault));
    let mut text = "| fault, flush mode | store | while it lasted | after a kill and an open |\n\
                    |---|---|---|---|"
        .to_owned();
    for row in rows {
        let o = &row.outcome;
        let after = match (&o.refused, &o.silent) {
            (Some(why), _) => format!("refuses: {why}"),
            (None, Some(how)) => how.clone(),
            _ => String::new(),
        };
        let c = &o.by_queue;
        let right = format!("{} of {} right", c.right, o.acknowledged);
        let words = [(c.wrong, "**wrong**"), (c.lost, "**lost**"), (c.error, "named")];
        let words = words.into_iter().filter(|(count, _)| *count > 0);
        let words: String = words.map(|(count, what)| format!(", {what} {count}")).collect();
        let (name, state) = (&row.fault.name, &row.fault.state);
        let store = &row.peer;
        let _ =
            write!(text, "\n| {name}, {state} | {store} | {} | {right}{words} {after} |", o.note);
    }
    text.push('\n');
    text
}

fn sum(sum: &Sum, usual: u64) -> String {
    let mut words = vec![format!("told {} of {}", sum.told, sum.cases)];
    for (what, told) in [
        ("wrong", "**wrong**"),
        ("lost", "**lost**"),
        ("twice", "**offsets twice**"),
        ("extra", "**that nobody put**"),
        ("shut", "shut"),
        ("given up", "given up"),
        ("error", "named"),
    ] {
        let most = sum.most.get(what).copied().unwrap_or(0);
        if most > 0 {
            words.push(format!("{told} {most}"));
        }
    }
    let others = ["wrong", "lost", "error"].iter().filter_map(|what| sum.most.get(what)).max();
    let unindexed = sum.most.get("unindexed").copied().unwrap_or(0);
    if unindexed > usual + others.copied().unwrap_or(0) {
        words.push(format!("not by key {unindexed}"));
    }
    if sum.silent > 0 {
        words.push(format!("**died or hung** {}", sum.silent));
    }
    words.join(", ")
}

/// Every case, one JSON object a line.
pub(crate) fn json(rows: &[Row]) -> String {
    let mut text = String::new();
    for row in rows {
        let (f, o) = (&row.fault, &row.outcome);
        let list = |words: &mut dyn Iterator<Item = &String>| {
            format!("[{}]", words.map(|word| quoted(word)).collect::<Vec<_>>().join(","))
        };
        let maybe = |text: &Option<String>| text.as_deref().map_or("null".to_owned(), quoted);
        let counts = |c: &Counts| {
            let words = list(&mut c.words.iter());
            format!(
                "{{\"right\":{},\"wrong\":{},\"lost\":{},\"error\":{},\"words\":{words}}}",
                c.right, c.wrong, c.lost, c.error
            )
        };
        let _ = writeln!(
            text,
            "{{\"peer\":{},\"fault\":{},\"place\":{},\"state\":{},\"acknowledged\":{},\
             \"touched\":{},\"refused\":{},\"said\":{},\"silent\":{},\"byQueue\":{},\
             \"byPosition\":{},\"byKey\":{},\"extra\":{},\"twice\":{},\"new\":{},\"saidLater\":{},\
             \"positions\":{},\"verify\":{},\"collateral\":{},\"afterFailedSync\":{},\"note\":{}}}",
            quoted(&row.peer),
            quoted(&f.name),
            quoted(&f.place),
            quoted(&f.state),
            o.acknowledged,
            o.touched,
            maybe(&o.refused),
            list(&mut o.said.iter()),
            maybe(&o.silent),
            counts(&o.by_queue),
            counts(&o.by_position),
            counts(&o.by_key),
            o.extra,
            o.twice,
            o.new,
            list(&mut o.said_later.iter()),
            quoted(&o.positions),
            maybe(&o.verified),
            o.collateral,
            o.after_failure.map_or("null".to_owned(), |count| count.to_string()),
            quoted(&o.note),
        );
    }
    text
}

fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            ' '..='~' => quoted.push(c),
            _ => {
                let _ = write!(quoted, "\\u{:04x}", c as u32 & 0xffff);
            }
        }
    }
    quoted.push('"');
    quoted
}
