//! A short life of a store on one thread, the same calls each time: what `writer --stepped` does.
//! For trials in which the k-th call fails. Says the same lines as the writer.

use std::{process::ExitCode, time::Duration};

use steadfast::{
    FlushMode, Message, QueueOffset, ReadLimit, Result, Step, Store, Ticket, disk::sim::Rng,
};

use crate::{
    message::{QUEUES, body, group, name_of, queue},
    writer::{Args, failed, options, say},
};

/// Opens, appends with everything else in between, closes. Errors are said, and it goes on.
pub(crate) fn run(args: &Args) -> ExitCode {
    let mut options = options(args.mode);
    if args.retain {
        options.retention.reserved = Duration::ZERO;
    }
    say("opening");
    let store = match Store::builder(&args.dir).options(options).open_stepped() {
        Ok(store) => store,
        Err(e) => {
            failed(&e);
            return ExitCode::FAILURE;
        }
    };
    say("open");
    let mut rng = Rng::new(args.seed);
    let mut serial = 0;
    for n in 1..=args.appends.unwrap_or(50) {
        tell(append(&store, args, &mut serial, &mut rng));
        every(n, 3, || store.step(Step::Dispatch));
        every(n, 4, || store.step(Step::Prepare));
        every(n, 7, || store.step(Step::Keep));
        every(n, 9, || read(&store, (n % QUEUES as u64) as i32));
        every(n, 11, || commit(&store, (n % QUEUES as u64) as i32));
        every(n, 14, || store.step(Step::Checkpoint));
        every(n, 17, || store.step(Step::Retain));
    }
    if args.abandon {
        store.abandon();
        return ExitCode::SUCCESS;
    }
    tell(store.close());
    ExitCode::SUCCESS
}

fn every(n: u64, nth: u64, then: impl FnOnce() -> Result<()>) {
    if n.is_multiple_of(nth) {
        tell(then());
    }
}

fn tell(result: Result<()>) {
    if let Err(e) = result {
        failed(&e);
    }
}

/// One message or a batch, durable at once where that is the promise.
fn append(store: &Store, args: &Args, serial: &mut u64, rng: &mut Rng) -> Result<()> {
    let id = rng.below(QUEUES as u64) as i32;
    let queue = queue(id)?;
    let count = if rng.chance(1, 8) { rng.within(2..6) } else { 1 };
    let names: Vec<_> =
        (*serial..*serial + count).map(|s| format!("r{}-t0-s{s}", args.round)).collect();
    *serial += count;
    let bodies: Vec<_> = names.iter().map(|name| body(name)).collect();
    let messages: Vec<_> =
        names.iter().zip(&bodies).map(|(n, b)| Message::new(&queue, b).key(n)).collect();
    let ticket = store.append_batch(&messages)?;
    if store.options().flush == FlushMode::Sync {
        tell(store.step(Step::Flush));
    }
    settled(ticket, &names, id)?;
    say(&format!("DURABLE {}", store.progress().durable));
    Ok(())
}

fn settled(ticket: Ticket, names: &[String], id: i32) -> Result<()> {
    if !ticket.is_settled() {
        say("ERROR Wrong a ticket is not settled after the flush");
        return Ok(());
    }
    let receipt = ticket.wait()?;
    for (name, place) in names.iter().zip(receipt.placements()) {
        let (at, physical, end) = (place.queue_offset, place.physical_offset, place.end());
        say(&format!("{} {name} {id} {at} {physical} {end}", receipt.status.name()));
    }
    Ok(())
}

fn commit(store: &Store, id: i32) -> Result<()> {
    let queue = queue(id)?;
    let Some((_, end)) = store.queue_range(&queue) else { return Ok(()) };
    say(&format!("COMMITTING 0 {id} {end}"));
    store.consumers().commit(&group(0)?, &queue, end)?;
    store.step(Step::SaveOffsets)?;
    say(&format!("SAVED 0 {id} {end}"));
    Ok(())
}

/// Reads a queue from its first message to its last.
///
/// # Errors
///
/// As [`Store::read`]; what is wrong with what was read, it says.
pub(crate) fn read(store: &Store, id: i32) -> Result<()> {
    let queue = queue(id)?;
    let Some((mut next, end)) = store.queue_range(&queue) else { return Ok(()) };
    while next < end {
        let batch = store.read(&queue, next, ReadLimit::records(32))?;
        if batch.is_empty() {
            say(&format!("ERROR Wrong nothing at {next} of {queue}, which ends at {end}"));
            return Ok(());
        }
        for record in batch.iter() {
            if record.queue_offset() != next || name_of(record.body()).is_none() {
                say(&format!("ERROR Wrong bytes were read at {next} of {queue}"));
                return Ok(());
            }
            next = QueueOffset::new(next.get() + 1);
        }
    }
    Ok(())
}
