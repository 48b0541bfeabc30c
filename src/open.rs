//! The sequence of opening: lock, look, decide, and only then touch anything.

use std::{collections::BTreeSet, net::SocketAddr, ops::Range, sync::Arc};

use crate::{
    checkpoint::{
        Checkpoint, CheckpointFile, OWN_DIR,
        frames::FRAMES_DIR,
        snapshot::{self, QueueState},
    },
    clock::Clock,
    consumer::{CONFIG_DIR, ConsumerOffsets},
    disk::{self, Access, AppendPath, DirectoryLock, Disk, FilePath, failed, load, replace},
    dispatch::Dispatcher,
    engine::{Engine, Writable},
    error::Result,
    format::{
        index::IndexGeometry,
        java::{JAVA_FIELDS_BYTES, JavaCheckpoint},
        record::RecordLimits,
    },
    index::{self, INDEX_DIR, KeyIndex, Known},
    keeper::Keeper,
    log::{
        CommitLog, LogConfig, LogState,
        marks::Marks,
        segment::{LOG_DIR, Segment},
        sequence::Sequence,
    },
    offset::PhysicalOffset,
    options::{KeyIndexing, Options, RecordChecksum},
    queue::{QUEUES_DIR, QueueConfig, QueueOnDisk, QueueTable, infer_file_bytes, scan_directory},
    recovery::{
        self, ABORT, Inspected, JAVA_CHECKPOINT, RecoveredLog, floors::Floors, kept, lock,
        parallel, report::Finding,
    },
    rest::Rest,
    sync::Mutex,
    ticket::TicketContext,
    verify,
};

/// How far some long work is, for whoever wants to show it.
pub(crate) type ProgressFn = dyn Fn(&str, u64, u64) + Send + Sync;

/// What opening needs to know.
pub(crate) struct OpenRequest {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) options: Options,
    pub(crate) access: Access,
    pub(crate) store_host: SocketAddr,
    pub(crate) progress: Box<ProgressFn>,
    /// Queues and index are made anew from the log, whatever their files hold.
    pub(crate) rebuild: bool,
}

const DIRECTORIES: [&str; 6] = [LOG_DIR, QUEUES_DIR, INDEX_DIR, CONFIG_DIR, OWN_DIR, FRAMES_DIR];
const STALE: &str = "the queues' files are not as the checkpoint says";

/// The queues and the index as far as they can be trusted before the log is walked.
struct Derived {
    queues: QueueTable,
    index: Option<KeyIndex>,
    /// Dispatching begins here.
    from: PhysicalOffset,
    /// The queues' files, for later.
    on_disk: Vec<QueueOnDisk>,
    floors: Floors,
    rebuilt: Option<String>,
    notes: Vec<String>,
}

pub(crate) fn open(request: OpenRequest) -> Result<Engine> {
    request.options.validate()?;
    let write = request.access == Access::Write;
    let lock = write.then(|| lock::take(&*request.disk)).transpose()?;
    let inspected = recovery::inspect(&*request.disk)?;
    if !write {
        inspected.expect_store()?;
    }
    let mut derived = restore_derived(&request, &inspected)?;
    let end_hint = inspected.files.bases.last().map_or(0, |b| b.get());
    let mut walked =
        |at: PhysicalOffset| (request.progress)("checking the log", at.get(), end_hint);
    let now = request.clock.now();
    let on_damage = request.options.on_damage;
    let disk = &request.disk;
    // Before anything is touched: it may be that they cannot be read.
    let consumers = ConsumerOffsets::load(&**disk)?;
    let mut log =
        recovery::examine(&**disk, &inspected, derived.from, on_damage, now, &mut walked)?;
    if write {
        make_directories(&**disk)?;
        let syncing = kept::syncing(&inspected, &log, &request.options);
        log.durable = recovery::apply(disk, &inspected, &log, syncing, now)?;
    } else {
        if let Some(synced) = lock::synced_by_writer(&**disk)? {
            log.end = log.end.min(synced);
        }
        log.durable = log.end;
        log.report.nothing_done();
    }
    let on_disk = std::mem::take(&mut derived.on_disk);
    derived.floors.look(&**disk, &inspected.files, &on_disk, &log)?;
    restore_index(&mut derived, &inspected, log.start, request.rebuild)?;
    assemble(request, inspected, log, (derived, consumers), lock)
}

fn make_directories(disk: &dyn Disk) -> Result<()> {
    for name in DIRECTORIES {
        let path = FilePath::new(name);
        disk.create_dir(&path).map_err(failed("create the directory", &path))?;
    }
    // Also what is in them: the process before may have died between making a name and syncing it.
    // What is found here is built upon, so it must not vanish in a power failure.
    for path in std::iter::once(FilePath::ROOT).chain(DIRECTORIES.map(FilePath::new)) {
        disk.sync_dir(&path).map_err(failed("sync", &path))?;
    }
    Ok(())
}

/// Takes queues and index from the last checkpoint where its files bear it out. Everything else
/// comes from the log again.
fn restore_derived(request: &OpenRequest, inspected: &Inspected) -> Result<Derived> {
    let disk = &request.disk;
    let found = scan_directory(&**disk)?;
    let options = &request.options;
    let file_bytes = infer_file_bytes(&found.queues);
    let queues = QueueTable::new(
        disk.clone(),
        QueueConfig {
            file_bytes: file_bytes.unwrap_or(options.queue_file_bytes),
            open_files: options.open_queue_files,
            access: request.access,
        },
    );
    let log_start = inspected.files.bases.first().copied().unwrap_or(inspected.durable_end);
    let index = match options.key_index {
        KeyIndexing::On => {
            let geometry = index_geometry(&**disk, options)?;
            Some(KeyIndex::new(disk.clone(), geometry.slots, geometry.entries, request.access))
        }
        KeyIndexing::Off => None,
    };
    let mut derived = Derived {
        queues,
        index,
        from: log_start,
        on_disk: found.queues,
        floors: Floors::default(),
        rebuilt: None,
        notes: found.problems,
    };
    let trusted = match &inspected.checkpoint {
        Some(checkpoint) if inspected.foreign.is_none() => Some(checkpoint),
        _ => None,
    };
    let states = match trusted.and_then(|c| c.snapshot) {
        Some(wanted) => snapshot::read(&**disk, &wanted)?.map(|states| (wanted.at, states)),
        None => None,
    };
    if let Some((at, states)) = &states {
        derived.floors = Floors::of_snapshot(*at, states);
    }
    match states {
        Some(_) if request.rebuild => derived.rebuilt = Some("a repair was asked for".into()),
        Some((at, states)) => from_snapshot(&mut derived, at.max(log_start), states)?,
        None if inspected.files.bases.is_empty() => {}
        None => {
            derived.floors = Floors::of_files();
            if inspected.foreign.is_none() {
                derived.rebuilt = Some("there is no snapshot of the queues".into());
            }
        }
    }
    Ok(derived)
}

fn from_snapshot(derived: &mut Derived, at: PhysicalOffset, states: Vec<QueueState>) -> Result<()> {
    let log_start = derived.from;
    derived.from = at;
    for state in states {
        derived.queues.restore(state.key.clone(), state.min, state.end);
        if let Some(problem) = derived.queues.check_files(&state.key, at)? {
            derived.queues.reset(&state.key);
            derived.from = log_start;
            derived.rebuilt.get_or_insert(format!("{STALE}: {problem}"));
        }
    }
    Ok(())
}

/// The geometry of the index files. It is stored nowhere; where the files are not as long as the
/// options say, what they hold tells which numbers they were made with.
fn index_geometry(disk: &dyn Disk, options: &Options) -> Result<IndexGeometry> {
    let wanted = IndexGeometry { slots: options.index_slots, entries: options.index_entries };
    let files = disk::list(disk, &index::root())?;
    if files.iter().any(|file| file.len == wanted.file_bytes()) {
        return Ok(wanted);
    }
    Ok(verify::index_geometry(disk)?.unwrap_or(wanted))
}

/// Takes the index over as far as the checkpoint knows it. What is missing is put again from the
/// log, so dispatching may have to begin earlier.
fn restore_index(
    derived: &mut Derived,
    inspected: &Inspected,
    log_start: PhysicalOffset,
    rebuild: bool,
) -> Result<()> {
    let Some(index) = &derived.index else { return Ok(()) };
    let trusted = inspected.checkpoint.as_ref().filter(|_| inspected.foreign.is_none());
    let known = match trusted {
        Some(checkpoint) if checkpoint.snapshot.is_some() && !rebuild => {
            Known::UpTo(checkpoint.index.clone())
        }
        _ => Known::Nothing,
    };
    let mut restored = index.restore(&known)?;
    derived.notes.extend(restored.problems);
    if trusted.is_some_and(|checkpoint| checkpoint.index_behind) {
        let state = trusted.and_then(|checkpoint| checkpoint.index.as_ref());
        let end = state.map_or(log_start, |state| state.end);
        restored.rebuild_from = Some(restored.rebuild_from.map_or(end, |from| from.min(end)));
    }
    if known != Known::Nothing
        && let Some(from) = restored.rebuild_from
    {
        derived.from = derived.from.min(from.max(log_start));
        derived.rebuilt.get_or_insert("an index file is not as the checkpoint says".into());
    }
    Ok(())
}

fn log_config(
    options: &Options,
    segment_bytes: u64,
    append_path: AppendPath,
    store_host: SocketAddr,
) -> LogConfig {
    LogConfig {
        limits: RecordLimits { max_message_bytes: options.max_message_bytes, segment_bytes },
        segment_bytes,
        append_path,
        checksum: options.record_checksum,
        max_unflushed_bytes: options.max_unflushed_bytes,
        append_timeout: options.append_timeout,
        store_host,
    }
}

/// Where every record carries a checksum of all of it, if that was so `from` on up to `end`.
fn record_crc(
    options: &Options,
    access: Access,
    from: Option<PhysicalOffset>,
    end: PhysicalOffset,
) -> Range<PhysicalOffset> {
    let to_come = access == Access::Write && options.record_checksum == RecordChecksum::On;
    let until = if to_come { PhysicalOffset::new(u64::MAX) } else { end };
    // A log that was given up from somewhere on may end before it.
    from.map_or(end, |from| from.min(end))..until
}

/// Builds the engine, brings queues and index up to the log's end, and makes the store ours.
fn assemble(
    request: OpenRequest,
    inspected: Inspected,
    log: RecoveredLog,
    (derived, consumers): (Derived, ConsumerOffsets),
    lock: Option<Box<dyn DirectoryLock>>,
) -> Result<Engine> {
    let OpenRequest { disk, clock, options, access, store_host, progress, .. } = request;
    let append_path = Engine::append_path(&*disk, &options);
    let segment_bytes = inspected.files.segment_bytes.unwrap_or(options.segment_bytes);
    let config = log_config(&options, segment_bytes, append_path, store_host);
    let mut segments = recovery::map_segments(&*disk, &inspected, &log, access)?;
    // Without any, or behind one that is missing, the log goes on in one of its own.
    let reached = segments.last().is_some_and(|last| last.end() >= log.end);
    if !reached && access == Access::Write {
        let ready = segment_bytes.min(1 << 20);
        segments.push(Arc::new(Segment::create(&*disk, log.end, segment_bytes, ready)?));
    }
    let mut report = log.report;
    for text in derived.notes {
        report.note(text);
    }
    if let Some(reason) = derived.rebuilt {
        report.findings.push(Finding::Rebuilt { reason, from: derived.from });
    }
    report.dispatched_from = derived.from.min(log.end);
    report.log_end = log.end;
    let marks = Marks::new(log.end.get(), log.durable.get(), append_path, options.flush);
    let marks = Arc::new(marks);
    let state = LogState {
        segments,
        end: log.end,
        sequence: Sequence::default(),
        damage: log.damage,
        boundaries: log.boundaries,
        record_crc: record_crc(&options, access, log.record_crc_from, log.end),
    };
    let commit_log = CommitLog::new(disk.clone(), clock.clone(), config, marks.clone(), state);
    let mut engine = Engine {
        context: Arc::new(TicketContext { marks: marks.clone(), clock: clock.clone() }),
        dispatcher: Mutex::new(Dispatcher::new()),
        log: commit_log,
        queues: derived.queues,
        index: derived.index,
        consumers,
        report,
        rest: Rest::new(),
        writable: None,
        disk,
        clock,
        options,
    };
    engine.log.marks().dispatched.rewind(derived.from.min(log.end).get());
    let total = log.end.get();
    let told = |at| progress("rebuilding queues and index", at, total);
    let unsynced = PhysicalOffset::new(marks.durable.get())..log.end;
    engine.queues.catch_up();
    dirty_and_bring_up(&mut engine, &inspected, unsynced, &told)?;
    engine.queues.caught_up();
    engine.dispatcher.lock().forget_queues();
    let lost = derived.floors.raise(&engine.queues, &engine.consumers);
    // What was derived anew has anything behind its end.
    let as_left = inspected.clean && !engine.report.was_rebuilt();
    settle_queues(&mut engine, lost, as_left, access)?;
    if let Some(lock) = lock {
        take_over(&mut engine, &inspected, lock)?;
    }
    engine.report.to_sync = log.end.get() - marks.durable.get();
    Ok(engine)
}

/// [`bring_up`], while what is `unsynced` is made dirty. Both are done before anything is synced or
/// served: a sync passes over what counts as clean, and that may vanish at any time.
fn dirty_and_bring_up(
    engine: &mut Engine,
    inspected: &Inspected,
    unsynced: Range<PhysicalOffset>,
    progress: &dyn Fn(u64),
) -> Result<()> {
    if unsynced.is_empty() {
        return bring_up(engine, inspected.clean, progress);
    }
    let disk = engine.disk.clone();
    let dirty = || kept::dirty_unsynced(&*disk, &inspected.files, unsynced);
    let (dirty, up) = parallel::both(&*disk, dirty, || bring_up(engine, inspected.clean, progress));
    dirty.and(up)
}

/// Dispatches up to the log's end and finds the queues' beginnings. A queue whose files turn out to
/// have lost entries is derived anew from the whole log: a broken derived file is no reason not to
/// open.
fn bring_up(engine: &mut Engine, clean: bool, progress: &dyn Fn(u64)) -> Result<()> {
    let mut anew = BTreeSet::new();
    let bring = |engine: &Engine| {
        engine.dispatch_all(progress)?;
        if clean { Ok(()) } else { engine.queues.raise_mins(engine.log.start()) }
    };
    loop {
        let brought = bring(engine);
        // A search passes by an entry that is lost; a checkpoint would not.
        let broken = engine.queues.degraded();
        // Each queue once: what is in a tail cannot be lost in a file.
        if broken.is_empty() || !broken.iter().all(|key| anew.insert(key.clone())) {
            return brought;
        }
        broken.iter().for_each(|key| engine.queues.reset(key));
        engine.dispatcher.lock().forget_queues();
        let from = engine.log.start();
        engine.log.marks().dispatched.rewind(from.get());
        let lost = || format!("a queue file lost an entry queue={}", broken[0]);
        let reason = brought.err().map_or_else(lost, |error| error.to_string());
        engine.report.findings.push(Finding::Rebuilt { reason, from });
        engine.report.dispatched_from = from;
    }
}

/// After dispatching: nothing is left in the queues' files behind their ends, and appends go on
/// there.
fn settle_queues(engine: &mut Engine, lost: u64, as_left: bool, access: Access) -> Result<()> {
    if lost > 0 {
        engine.report.note(format!(
            "the last messages of some queues are lost; their offsets are not given again \
             messages={lost}"
        ));
    }
    let counts = engine.dispatch_counts();
    if counts.gaps > 0 || counts.conflicts > 0 || counts.unplaced > 0 {
        let text = format!(
            "queue positions without a record are filled with placeholders, records whose position \
             is taken or whose queue has no valid name are in no queue gaps={} conflicts={} \
             unplaced={}",
            counts.gaps, counts.conflicts, counts.unplaced
        );
        engine.report.note(text);
    }
    if access == Access::Read {
        return Ok(());
    }
    if !as_left {
        for queue in engine.queues.list() {
            engine.queues.cut(queue.key(), queue.end())?;
        }
    }
    engine.dispatcher.lock().forget_queues();
    let ends = engine.queues.list().into_iter().map(|q| (q.key().clone(), q.end()));
    engine.log.set_sequence(Sequence::new(ends));
    Ok(())
}

/// Marks the directory as in use by this store, in an order in which a crash anywhere leaves it
/// as what it is: ours and not closed, or still the other program's.
fn take_over(
    engine: &mut Engine,
    inspected: &Inspected,
    lock: Box<dyn DirectoryLock>,
) -> Result<()> {
    let disk = engine.disk.clone();
    let last = inspected.checkpoint.clone();
    let claimed = last.as_ref().and_then(|c| c.record_crc_from);
    let checkpoints = CheckpointFile::open(&*disk, last.as_ref().map_or(0, |c| c.sequence))?;
    let kept = last.filter(|_| inspected.foreign.is_none());
    let end = PhysicalOffset::new(engine.log.marks().durable.get());
    let to_come = engine.options.record_checksum == RecordChecksum::On;
    let record_crc_from = to_come.then_some(engine.log.record_crc().start);
    let mut opened = checkpoints.write(Checkpoint {
        sequence: 0,
        durable_end: end,
        log_start: engine.log.start(),
        clean: false,
        flush: engine.options.flush,
        record_crc_from,
        snapshot: kept.as_ref().and_then(|c| c.snapshot),
        index: kept.as_ref().and_then(|c| c.index.clone()),
        index_behind: kept.as_ref().is_some_and(|c| c.index_behind),
        java: [0; JAVA_FIELDS_BYTES],
    })?;
    if claimed.is_some_and(|old| record_crc_from.is_none_or(|new| old < new)) {
        // The other slot must not ask for what later records lack, should this one rot.
        opened = checkpoints.write(opened)?;
    }
    write_java_files(&*disk)?;
    let clamped = engine.consumers.clamp(|key| engine.queues.get(key).map(|q| q.end()));
    for found in clamped {
        engine.report.findings.push(Finding::OffsetClamped {
            group: found.group,
            queue: found.queue,
            saved: found.saved,
            now: found.now,
        });
    }
    let keeper = Keeper::new(opened, engine.clock.elapsed());
    engine.writable = Some(Writable::new(checkpoints, keeper, lock));
    if !inspected.clean {
        // So that the next recovery begins here and not where this one did.
        engine.checkpoint_recovered(&mut engine.writable()?.keeper.lock())?;
    }
    Ok(())
}

/// RocketMQ's `abort` (with our process id) and a checkpoint that claims nothing: with either a
/// Java store checks and rebuilds everything.
fn write_java_files(disk: &dyn Disk) -> Result<()> {
    let checkpoint = FilePath::new(JAVA_CHECKPOINT);
    let zeros = JavaCheckpoint::default().encode();
    if load(disk, &checkpoint, 1 << 20)?.is_none_or(|bytes| bytes != zeros) {
        let temp = FilePath::new("steadfast/java-checkpoint.tmp");
        replace(disk, &temp, &checkpoint, &zeros)?;
    }
    let pid = std::process::id().to_string();
    let temp = FilePath::new("steadfast/abort.tmp");
    replace(disk, &temp, &FilePath::new(ABORT), pid.as_bytes())
}
