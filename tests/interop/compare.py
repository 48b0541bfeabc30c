#!/usr/bin/env python3
"""Compares dumps of store directories: one JSON object a line, as store-java/README.md describes.

  compare.py same OURS JAVA [--index STATE]      line for line, but for the differences below
  compare.py sound DUMP                          offsets dense, queues and log name each other
  compare.py keeps BEFORE AFTER [--index STATE]  nothing of BEFORE is missing or changed in AFTER
  compare.py put DUMP [--base DUMP] PUT...       DUMP holds what `steadfast put` acknowledged

Differences that `same` accepts, and no others:
  - a `query` line of ours lists the records that really have the key, where Java's also lists
    those whose key only has the same hash; where Java stops at its 64 records, ours must list as
    many that have the key;
  - the `store` line of ours may have more fields;
  - a directory whose writer was killed: opening it, Java drops index files and rebuilds only the
    end of the index (how much depends on times and version). With `--index java-lacks` Java may
    list fewer records than have the key, ours must list all. With `--index lacks` Java has opened
    and closed the directory itself: what it dropped is gone, and ours may lack it too.

PUT is PLAN:ACKED, with a trailing `:killed` where the writer was killed. PLAN is what messages.py
wrote down about the messages, ACKED what `steadfast put` printed. Several are in the order in
which they were run. With --base, DUMP holds the records of that dump first.

Exit status: 0 equal, 1 different (the differences on stderr), 2 usage or unreadable input.
"""
import argparse
import collections
import json
import sys

SHOWN = 10
JAVA_QUERY_LIMIT = 64
TRANSACTION_BITS = 0xC
ROLLED_BACK = 0xC
IN_NO_QUEUE = (0x4, ROLLED_BACK)  # prepared and rolled back


class Findings:
    """Collects what is wrong; the first few are printed."""

    def __init__(self):
        self.count = 0

    def add(self, text):
        self.count += 1
        if self.count <= SHOWN:
            print(text if len(text) <= 1000 else text[:1000] + "...", file=sys.stderr)

    def status(self):
        if self.count > SHOWN:
            print(f"... and {self.count - SHOWN} more", file=sys.stderr)
        return 1 if self.count else 0


def unreadable(text):
    print(text, file=sys.stderr)
    sys.exit(2)


def no_duplicates(pairs):
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError(f"a field is given twice: {[name for name, _ in pairs]}")
    return fields


def read(path, cut_tail=False):
    """The lines of a file; with cut_tail without a last one that a kill left unfinished."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        unreadable(str(error))
    lines = data.split(b"\n")
    last = lines.pop()
    if last and not cut_tail:
        unreadable(f"{path}: the last line has no end")
    out = []
    for number, line in enumerate(lines, 1):
        try:
            value = json.loads(line.decode("utf-8"), object_pairs_hook=no_duplicates)
        except ValueError as error:
            unreadable(f"{path}:{number}: {error}")
        if not isinstance(value, dict):
            unreadable(f"{path}:{number}: not an object")
        out.append(value)
    return out


def dump(path):
    lines = read(path)
    if not lines or lines[0].get("type") != "store":
        unreadable(f"{path}: does not begin with a store line")
    return lines


def of_type(lines, *types):
    return [line for line in lines if line.get("type") in types]


def brief(line):
    text = json.dumps(line, ensure_ascii=True)
    return text if len(text) <= 400 else text[:400] + "..."


def same_query(ours, java, holders, index, findings, at):
    """Ours must be Java's answer without the records that do not have the key."""
    name = (java.get("topic"), java.get("key"))
    if ours.keys() != java.keys() or (ours.get("topic"), ours.get("key")) != name:
        findings.add(f"{at}: ours {brief(ours)}\n    java {brief(java)}")
        return
    mine, theirs = ours["physOffsets"], java["physOffsets"]
    real = holders.get(name, set())
    want = [offset for offset in theirs if offset in real]
    cut = index != "whole" or len(theirs) >= JAVA_QUERY_LIMIT
    if mine == want and index != "java-lacks":
        return
    good = mine == sorted(set(mine)) and set(want) <= set(mine) <= real
    enough = index == "lacks" or len(mine) >= min(len(real), JAVA_QUERY_LIMIT)
    if not (cut and good and enough):
        findings.add(
            f"{at}: key {name}: ours {mine}, java without hash collisions {want}, "
            f"{len(real)} records have the key"
        )


def same(args, findings):
    ours, java = dump(args.ours), dump(args.java)
    holders = collections.defaultdict(set)
    for record in of_type(java, "record"):
        if record["sysFlag"] & TRANSACTION_BITS == ROLLED_BACK:
            continue  # never indexed
        keys = set(record["props"].get("KEYS", "").split(" "))
        keys.add(record["props"].get("UNIQ_KEY"))
        for key in keys - {"", None}:
            holders[record["topic"], key].add(record["physOffset"])
    for number, (mine, theirs) in enumerate(zip(ours, java), 1):
        at = f"line {number}"
        kind = theirs.get("type")
        if mine.get("type") != kind:
            findings.add(f"{at}: ours {brief(mine)}\n    java {brief(theirs)}")
            break
        if kind == "query":
            same_query(mine, theirs, holders, args.index, findings, at)
            continue
        fields = theirs.keys() if kind == "store" else mine.keys() | theirs.keys()
        wrong = [f for f in fields if mine.get(f, "(none)") != theirs.get(f, "(none)")]
        for field in sorted(wrong):
            findings.add(
                f"{at}: {kind} at {theirs.get('physOffset', '-')}, {field}: "
                f"ours {mine.get(field, '(none)')!r}, java {theirs.get(field, '(none)')!r}"
            )
    if len(ours) != len(java):
        longer, name = (ours, "ours") if len(ours) > len(java) else (java, "java")
        line = longer[min(len(ours), len(java))]
        findings.add(f"ours has {len(ours)} lines, java {len(java)}; only {name}: {brief(line)}")


def in_queue(record):
    return record["sysFlag"] & TRANSACTION_BITS not in IN_NO_QUEUE


def sound(args, findings):
    check_sound(dump(args.dump), findings)


def check_sound(lines, findings):
    """The log has no gap, each queue counts up by one, and both hold the same messages."""
    store = lines[0]
    at = store["minPhyOffset"]
    by_offset = {}
    ends = {}
    for line in of_type(lines, "record", "blank"):
        if line["physOffset"] != at:
            findings.add(f"the log goes on at {line['physOffset']} where {at} was due")
        at = line["physOffset"] + line["size"]
        if line["type"] == "blank" or not in_queue(line):
            continue
        by_offset[line["physOffset"]] = line
        queue = line["topic"], line["queueId"]
        due = ends.get(queue, line["queueOffset"])
        if line["queueOffset"] != due:
            findings.add(f"queue {queue}: {brief(line)} where queue offset {due} was due")
        ends[queue] = line["queueOffset"] + 1
    if at != store["maxPhyOffset"]:
        findings.add(f"the log ends at {at}, said to be {store['maxPhyOffset']}")
    for line in of_type(lines, "gap", "damage"):
        findings.add(f"not readable: {brief(line)}")
    check_queues(lines, by_offset, ends, findings)


def check_queues(lines, by_offset, ends, findings):
    queues = {(q["topic"], q["queueId"]): q for q in of_type(lines, "queue")}
    next_offset = {queue: line["minOffset"] for queue, line in queues.items()}
    listed = set()
    for line in of_type(lines, "msg"):
        queue = line["topic"], line["queueId"]
        due = next_offset.get(queue)
        if line["cqOffset"] != due or line["queueOffset"] != due:
            findings.add(f"queue {queue}: {brief(line)} where queue offset {due} was due")
        next_offset[queue] = line["cqOffset"] + 1
        record = by_offset.get(line["physOffset"])
        listed.add(line["physOffset"])
        fields = ("topic", "queueId", "queueOffset", "bodySha")
        if record is None or any(record[f] != line[f] for f in fields):
            findings.add(f"queue {queue}: {brief(line)} is not in the log: {brief(record)}")
        elif record["size"] != line["cqSize"]:
            findings.add(f"queue {queue}: {brief(line)} has the size {record['size']} in the log")
    for queue, line in queues.items():
        if next_offset[queue] != line["maxOffset"]:
            findings.add(f"queue {queue}: ends at {next_offset[queue]}: {brief(line)}")
    for queue, end in ends.items():
        if queue not in queues or queues[queue]["maxOffset"] != end:
            findings.add(f"queue {queue}: {end} by the log: {brief(queues.get(queue))}")
    for offset, record in by_offset.items():
        if offset not in listed:
            findings.add(f"in the log, not in its queue: {brief(record)}")


def keeps(args, findings):
    check_keeps(dump(args.before), dump(args.after), findings, args.index)


def check_keeps(before, after, findings, index="whole"):
    """Each record and each queue entry is still there, and no different."""
    for kind, name in (
        ("record", lambda line: line["physOffset"]),
        ("blank", lambda line: line["physOffset"]),
        ("msg", lambda line: (line["topic"], line["queueId"], line["cqOffset"])),
    ):
        have = {name(line): line for line in of_type(after, kind)}
        for line in of_type(before, kind):
            if have.get(name(line)) != line:
                findings.add(f"was {brief(line)}\n    is {brief(have.get(name(line)))}")
    if index != "whole":
        return
    keys = {(q["topic"], q["key"]): set(q["physOffsets"]) for q in of_type(after, "query")}
    for line in of_type(before, "query"):
        now = keys.get((line["topic"], line["key"]), set())
        if not set(line["physOffsets"]) <= now and len(now) < JAVA_QUERY_LIMIT:
            findings.add(f"key found {line['physOffsets']} before, now {sorted(now)}: {brief(line)}")


def check_ack(ack, record, plan, where, findings):
    """What `put` printed for a message must be what the dump says about its record."""
    for field in ("queueId", "queueOffset", "physOffset"):
        if ack.get(field) != record[field]:
            findings.add(f"{where}: {field} was {ack.get(field)}, in the log {record[field]}")
    if ack.get("status") != "PUT_OK":
        findings.add(f"{where}: status {ack.get('status')}")
    ids = (record["msgId"], record["props"].get("UNIQ_KEY"))
    if ack.get("msgId") not in ids:
        findings.add(f"{where}: msgId was {ack.get('msgId')}, in the log {ids}")
    check_content(record, plan, where, findings)


def check_content(record, plan, where, findings):
    props = record["props"]
    got = {
        "topic": record["topic"],
        "queueId": record["queueId"],
        "tag": props.get("TAGS"),
        "key": props.get("KEYS"),
        "bodySha": record["bodySha"],
        "bodyLen": record["bodyLen"],
    }
    for field, want in plan.items():
        if got[field] != want:
            findings.add(f"{where}: {field} should be {want!r}, is {got[field]!r}")


def put(args, findings):
    lines = dump(args.dump)
    check_sound(lines, findings)
    records = of_type(lines, "record")
    first = 0
    if args.base:
        base = dump(args.base)
        check_keeps(base, lines, findings)
        first = len(of_type(base, "record"))
    for number, spec in enumerate(args.puts, 1):
        parts = spec.split(":")
        killed = parts[2:] == ["killed"]
        if len(parts) not in (2, 3) or (len(parts) == 3 and not killed):
            unreadable(f"not PLAN:ACKED[:killed]: {spec}")
        plan, acks = read(parts[0]), read(parts[1], cut_tail=killed)
        first = check_put(number, plan, acks, killed, records, first, findings)
    if first != len(records):
        findings.add(f"{len(records) - first} records nobody put, the first {brief(records[first])}")


def check_put(number, plan, acks, killed, records, first, findings):
    """The records of one `put`, from position `first` on; returns the position behind them."""
    if len(acks) > len(plan) or (not killed and len(acks) != len(plan)):
        findings.add(f"put {number}: {len(plan)} messages, {len(acks)} acknowledged")
    got = records[first:first + len(plan)]
    for index, ack in enumerate(acks):
        where = f"put {number}, message {index}"
        if index >= len(got):
            findings.add(f"{where}: acknowledged, not in the log: {brief(ack)}")
        elif index < len(plan):
            check_ack(ack, got[index], plan[index], where, findings)
    # After a kill there may be more than was acknowledged, but only what came next.
    for index in range(len(acks), len(got)):
        where = f"put {number}, message {index} (not acknowledged)"
        check_content(got[index], plan[index], where, findings)
    return first + len(got)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("same")
    command.add_argument("ours")
    command.add_argument("java")
    command.add_argument("--index", choices=("whole", "java-lacks", "lacks"), default="whole")
    command.set_defaults(run=same)
    command = commands.add_parser("sound")
    command.add_argument("dump")
    command.set_defaults(run=sound)
    command = commands.add_parser("keeps")
    command.add_argument("before")
    command.add_argument("after")
    command.add_argument("--index", choices=("whole", "lacks"), default="whole")
    command.set_defaults(run=keeps)
    command = commands.add_parser("put")
    command.add_argument("--base")
    command.add_argument("dump")
    command.add_argument("puts", nargs="+", metavar="PUT")
    command.set_defaults(run=put)
    args = parser.parse_args()
    findings = Findings()
    args.run(args, findings)
    sys.exit(findings.status())


if __name__ == "__main__":
    main()
