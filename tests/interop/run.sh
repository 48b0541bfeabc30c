#!/usr/bin/env bash
# Checks that the real RocketMQ store and steadfast read and extend each other's directories.
#
#   tests/interop/run.sh [build|self|golden|put-then-java|in-turn|all]
#
# build          builds the Java driver for both store versions, where that is not done yet
# self           Java alone: two versions answer alike, and a changed dump is noticed
# golden         `steadfast dump` of the directories in tests/data/golden answers as Java did
# put-then-java  `steadfast put` fills directories (closed, killed); both Java versions open them
# in-turn        Java and steadfast append by turns to one directory
# all            everything (the default); the last line is `N passed, N failed`
#
# Needs python3, a JDK 17, mvn, cargo. STEADFAST_BIN names a tool that is built already;
# INTEROP_KEEP=1 keeps the scratch directory. Exit status: 0 all passed, 1 something failed.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
driver=$here/store-java
target=$driver/target
golden=${INTEROP_GOLDEN:-$root/tests/data/golden}
versions=(5.3.1 5.5.1)
# The geometry of every directory made here. Java is told the index geometry each time, since it
# stands in no file; it takes the file sizes from the files.
geometry=(-o segment_bytes=65536 -o queue_file_bytes=6000 -o index_slots=1000 -o index_entries=4000)
java_geometry=cl=65536,cq=6000,slots=1000,index=4000
passed=0
failed=0

compare() { python3 "$here/compare.py" "$@"; }

need() {
  command -v "$1" >/dev/null || { echo "interop: $1 is missing" >&2; exit 1; }
}

# ---------------------------------------------------------------- building

build_java() {
  local version
  for version in "${versions[@]}"; do
    [ -f "$target/lib-$version/.complete" ] && [ -f "$target/store-java-1.jar" ] &&
      [ ! "$driver/pom.xml" -nt "$target/lib-$version/.complete" ] &&
      [ -z "$(find "$driver/src" -newer "$target/store-java-1.jar" -name '*.java')" ] && continue
    need mvn
    echo "building the Java driver, store $version"
    if [ "$version" = "${versions[0]}" ]; then
      mvn -q -B -f "$driver/pom.xml" package </dev/null
    else
      mvn -q -B -f "$driver/pom.xml" "-Drocketmq.version=$version" \
        dependency:copy-dependencies -DincludeScope=runtime \
        "-DoutputDirectory=$target/lib-$version" </dev/null
    fi
    ls "$target/lib-$version/rocketmq-store-$version.jar" >/dev/null
    touch "$target/lib-$version/.complete"
  done
}

build_tool() {
  if [ -z "${STEADFAST_BIN:-}" ]; then
    need cargo
    (cd "$root" && cargo build -q -p steadfast-cli --bin steadfast </dev/null)
    local dir
    dir=$(cd "$root" && cargo metadata --no-deps --format-version 1 </dev/null |
      python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')
    STEADFAST_BIN=$dir/debug/steadfast
  fi
  [ -x "$STEADFAST_BIN" ] || { echo "interop: no tool at $STEADFAST_BIN" >&2; exit 1; }
}

# ---------------------------------------------------------------- running both

# java VERSION ARGS...: one run of the driver; its own files and logs stay in the scratch directory.
java_store() {
  local version=$1 status=0
  shift
  mkdir -p "$scratch/java/tmp"
  local log
  log=$(mktemp "$scratch/java/log.XXXXXX")
  # The JVM's own warnings go to standard output unless told otherwise.
  java -cp "$target/store-java-1.jar:$target/lib-$version/*" -Xmx512m -XX:TieredStopAtLevel=1 \
    -XX:-UsePerfData -Xlog:disable -Xlog:all=warning:stderr "-Duser.home=$scratch/java" "-Djava.io.tmpdir=$scratch/java/tmp" \
    interop.StoreTool "$@" </dev/null 2>"$log" || status=$?
  if [ "$status" != 0 ]; then
    echo "the Java store $version said no to: $*"
    tail -n 20 "$log"
  fi >&2
  return "$status"
}

java_dump() { java_store "$1" dump "$2" "$java_geometry" >"$3"; }

# java_dumps DIR NAME: what both versions answer, as NAME.VERSION.jsonl. They open copies.
java_dumps() {
  local version pid pids=() status=0
  for version in "${versions[@]}"; do
    java_dump "$version" "$1" "$2.$version.jsonl" &
    pids+=($!)
  done
  for pid in "${pids[@]}"; do wait "$pid" || status=1; done
  return "$status"
}

# tool COMMAND ARGS...: steadfast; its stderr is shown only if the exit status is not 0.
tool() {
  local status=0 log
  log=$(mktemp "$scratch/tool.XXXXXX")
  "$STEADFAST_BIN" "$@" 2>"$log" || status=$?
  if [ "$status" != 0 ]; then
    echo "steadfast $* ended with status $status"
    tail -n 20 "$log"
  fi >&2
  return "$status"
}

our_dump() { tool dump "$1" </dev/null >"$2"; }

verify() {
  local out status=0
  out=$(tool verify "$1" </dev/null) || status=$?
  [ "$status" = 0 ] || printf '%s\n' "$out" >&2
  return "$status"
}

# messages NAME TOPIC QUEUE TAG KEY SEED COUNT OPTIONS...: NAME.bodies and NAME.plan.
messages() {
  local name=$1 topic=$2 queue=$3 tag=$4 key=$5 seed=$6 count=$7
  shift 7
  python3 "$here/messages.py" "$name.bodies" "$name.plan" --topic "$topic" --queue "$queue" \
    ${tag:+--tag "$tag"} ${key:+--key "$key"} --seed "$seed" --count "$count" "$@"
  put_args=(--topic "$topic" --queue "$queue" ${tag:+--tag "$tag"} ${key:+--key "$key"})
}

# put DIR NAME FLUSH: what `messages` made last; the printed lines go to NAME.acked.
put() {
  tool put "$1" "${put_args[@]}" --flush "$3" "${geometry[@]}" <"$2.bodies" >"$2.acked"
}

# ---------------------------------------------------------------- checks

# check NAME COMMAND...: runs it, counts it, shows its output if it failed.
check() {
  local name=$1 start=$SECONDS
  shift
  if "$@" >"$scratch/check.log" 2>&1; then
    passed=$((passed + 1))
    echo "ok      $name ($((SECONDS - start)) s)"
  else
    failed=$((failed + 1))
    echo "FAILED  $name ($((SECONDS - start)) s)"
    sed 's/^/        /' "$scratch/check.log" | tail -n 60
  fi
}

must_differ() {
  local status=0
  compare "$@" 2>/dev/null || status=$?
  [ "$status" = 1 ] || { echo "status $status, should be 1: compare.py $*"; return 1; }
}

# ---------------------------------------------------------------- self: the comparison itself

run_self() {
  check "self: two Java versions answer alike" self_versions
  check "self: a changed dump is noticed" self_changes
}

# Java's answers, with the query lines as ours would have them.
as_ours() {
  python3 - "$1" <<'PY'
import json, sys
lines = [json.loads(line) for line in open(sys.argv[1], encoding="ascii")]
for line in lines:
    if line["type"] == "query":
        keep = {
            r["physOffset"] for r in lines
            if r["type"] == "record" and r["topic"] == line["topic"]
            and (line["key"] in r["props"].get("KEYS", "").split(" ")
                 or line["key"] == r["props"].get("UNIQ_KEY"))
        }
        line["physOffsets"] = [o for o in line["physOffsets"] if o in keep]
    print(json.dumps(line))
PY
}

self_versions() {
  local dir=$scratch/self
  java_store 5.3.1 write "$dir/store" "mixed,count=60,seed=11,$java_geometry" || return 1
  java_dumps "$dir/store" "$dir/java" || return 1
  cmp "$dir/java.5.3.1.jsonl" "$dir/java.5.5.1.jsonl" || return 1
  as_ours "$dir/java.5.3.1.jsonl" >"$dir/ours.jsonl" || return 1
  compare same "$dir/ours.jsonl" "$dir/java.5.5.1.jsonl" || return 1
  # The colliding keys Aa and BB are in this scene: Java's own answer is not ours.
  must_differ same "$dir/java.5.3.1.jsonl" "$dir/java.5.5.1.jsonl" || return 1
  compare sound "$dir/java.5.3.1.jsonl" || return 1
  compare keeps "$dir/ours.jsonl" "$dir/java.5.5.1.jsonl"
}

# One field of one line changed, or a line lost, doubled or swapped: each must be noticed.
self_changes() {
  local dir=$scratch/self good=$scratch/self/ours.jsonl java=$scratch/self/java.5.5.1.jsonl change
  for change in bodySha=record queueOffset=msg tagsCode=msg maxOffset=queue size=blank \
    physOffsets=query maxPhyOffset=store storeTs=record props=record drop=record drop=msg \
    drop=query drop=last double=msg swap=record; do
    python3 - "$good" "${change%=*}" "${change#*=}" >"$dir/changed.jsonl" <<'PY'
import json, sys
path, field, kind = sys.argv[1:]
lines = [json.loads(line) for line in open(path, encoding="ascii")]
at = [i for i, line in enumerate(lines) if line["type"] == kind] or [len(lines) - 1]
at = at[len(at) // 2]
if field == "drop":
    del lines[at]
elif field == "double":
    lines.insert(at, lines[at])
elif field == "swap":
    lines[at], lines[at + 1] = lines[at + 1], lines[at]
else:
    value = lines[at][field]
    lines[at][field] = (
        value + 1 if isinstance(value, int) else value + [1] if isinstance(value, list)
        else {**value, "x": "y"} if isinstance(value, dict) else "0" + value[1:] + "0"
    )
for line in lines:
    print(json.dumps(line))
PY
    must_differ same "$dir/changed.jsonl" "$java" || return 1
    case $change in
      bodySha=record | drop=record | drop=msg | props=record)
        must_differ keeps "$java" "$dir/changed.jsonl" || return 1 ;;
    esac
    case $change in
      queueOffset=msg | maxOffset=queue | size=blank | maxPhyOffset=store | drop=record | \
        drop=msg | double=msg | swap=record)
        must_differ sound "$dir/changed.jsonl" || return 1 ;;
    esac
  done
}

# ---------------------------------------------------------------- golden

run_golden() {
  build_tool
  local archive found=0
  for archive in "$golden"/*.tar.gz; do
    [ -f "$archive" ] || continue
    found=1
    check "golden: $(basename "$archive" .tar.gz)" golden_one "$(basename "$archive" .tar.gz)"
  done
  [ "$found" = 1 ] || check "golden: archives in tests/data/golden" false
}

golden_one() {
  mkdir -p "$scratch/golden"
  tar -C "$scratch/golden" -xzmf "$golden/$1.tar.gz" || return 1
  our_dump "$scratch/golden/$1" "$scratch/golden/$1.ours.jsonl" || return 1
  compare same "$scratch/golden/$1.ours.jsonl" "$golden/$1.jsonl"
}

# ---------------------------------------------------------------- put-then-java

run_put_then_java() {
  build_tool
  check "put-then-java: closed" put_closed
  check "put-then-java: killed" put_killed
  check "put-then-java: after the kill, goes on" put_after_kill
}

# both_agree DIR NAME [INDEX]: our dump and both Java dumps; ours equals Java's, line for line.
# INDEX is what compare.py is to expect of the key index.
both_agree() {
  local dir=$1 name=$2 index=${3:-whole} version
  our_dump "$dir" "$name.ours.jsonl" || return 1
  java_dumps "$dir" "$name" || return 1
  for version in "${versions[@]}"; do
    echo "ours against $version:"
    compare same "$name.ours.jsonl" "$name.$version.jsonl" --index "$index" || return 1
  done
  compare sound "$name.ours.jsonl"
}

all_puts_there() {
  local name=$1 version dump
  shift
  for dump in ours "${versions[@]}"; do
    echo "acknowledged against $dump:"
    compare put "$name.$dump.jsonl" "$@" || return 1
  done
}

# Several topics, queues, tags and keys; enough bytes for eight segments and three queue files.
fill() {
  local dir=$1 name=$2 flush=$3
  messages "$name.1" TopicA 0 TagA "order-1 order-2" 101 700 --max 300 && put "$dir" "$name.1" "$flush" || return 1
  messages "$name.2" TopicA 1 "" Aa 102 60 --empty && put "$dir" "$name.2" "$flush" || return 1
  messages "$name.3" TopicB 3 BB BB 103 40 --min 1000 --max 12000 && put "$dir" "$name.3" "$flush" || return 1
  messages "$name.4" "%RETRY%group" 0 "" "" 104 30 && put "$dir" "$name.4" "$flush" || return 1
  messages "$name.5" TopicA 0 TagB "" 105 50 --min 1 --max 20 && put "$dir" "$name.5" "$flush" || return 1
}

fill_specs() {
  specs=()
  local i
  for i in 1 2 3 4 5; do specs+=("$1.$i.plan:$1.$i.acked"); done
}

put_closed() {
  local dir=$scratch/closed specs
  mkdir -p "$dir"
  fill "$dir/store" "$dir/put" async || return 1
  verify "$dir/store" || return 1
  both_agree "$dir/store" "$dir/dump" || return 1
  fill_specs "$dir/put"
  all_puts_there "$dir/dump" "${specs[@]}"
}

# After a crash RocketMQ 5.5.1 looks at the last ten segments only (commitLogRecoverMaxNum): queue
# entries for what lies before them are lost to it. With segments as small as here a put that is
# killed late gets that far, so it is repeated.
put_killed() {
  local try before after
  for try in 1 2 3 4 5 6 7 8; do
    rm -rf "$scratch/killed"
    kill_a_put || return 1
    before=$(wc -l <"$scratch/killed/segments.before")
    after=$(find "$scratch/killed/store/commitlog" -type f | wc -l)
    if [ $((after - before)) -le 7 ]; then
      compare_killed
      return
    fi
    echo "try $try: $((after - before)) segments were filled before the kill; once more"
  done
  echo "put is always killed too late for RocketMQ 5.5.1"
  return 1
}

kill_a_put() {
  local dir=$scratch/killed pid lines=0
  mkdir -p "$dir"
  fill "$dir/store" "$dir/put" sync || return 1
  messages "$dir/put.6" TopicA 1 TagK killed 106 200000 || return 1
  find "$dir/store/commitlog" -type f >"$dir/segments.before"
  "$STEADFAST_BIN" put "$dir/store" "${put_args[@]}" --flush sync "${geometry[@]}" \
    <"$dir/put.6.bodies" >"$dir/put.6.acked" 2>"$dir/put.6.err" &
  pid=$!
  while [ "$lines" -lt 100 ]; do
    if ! kill -0 "$pid" 2>/dev/null; then
      echo "put ended by itself after $lines lines"
      cat "$dir/put.6.err"
      return 1
    fi
    sleep 0.01
    lines=$(wc -l <"$dir/put.6.acked")
  done
  kill -KILL "$pid"
  # The message about the kill is the shell's, not a finding. 137 says that the kill ended it.
  local status=0
  wait "$pid" 2>/dev/null || status=$?
  [ "$status" = 137 ] || { echo "put ended with $status, not by the kill"; return 1; }
  lines=$(wc -l <"$dir/put.6.acked")
  echo "killed after $lines acknowledgements"
  [ "$lines" -lt 200000 ] || { echo "all was written before the kill"; return 1; }
}

compare_killed() {
  local dir=$scratch/killed specs
  both_agree "$dir/store" "$dir/dump" java-lacks || return 1
  fill_specs "$dir/put"
  all_puts_there "$dir/dump" "${specs[@]}" "$dir/put.6.plan:$dir/put.6.acked:killed" || return 1
  verify "$dir/store"
}

# The killed directory: steadfast appends to one copy, Java to another; nothing goes missing.
put_after_kill() {
  local dir=$scratch/killed
  [ -f "$dir/dump.ours.jsonl" ] || { echo "needs the killed directory"; return 1; }
  cp -a "$dir/store" "$dir/ours" || return 1
  cp -a "$dir/store" "$dir/java" || return 1
  messages "$dir/put.7" TopicB 3 "" after 107 50 && put "$dir/ours" "$dir/put.7" sync || return 1
  verify "$dir/ours" || return 1
  both_agree "$dir/ours" "$dir/after" || return 1
  local dump
  for dump in ours "${versions[@]}"; do
    compare put "$dir/after.$dump.jsonl" --base "$dir/dump.ours.jsonl" \
      "$dir/put.7.plan:$dir/put.7.acked" || return 1
  done
  java_store 5.3.1 append "$dir/java" 20 "seed=7,clock=real,$java_geometry" || return 1
  verify "$dir/java" || return 1
  both_agree "$dir/java" "$dir/java-after" lacks || return 1
  compare keeps "$dir/dump.ours.jsonl" "$dir/java-after.ours.jsonl" --index lacks
}

# ---------------------------------------------------------------- in-turn

run_in_turn() {
  build_tool
  check "in-turn: Java begins" turn_begin
  local round
  for round in 1 2 3; do
    check "in-turn: round $round, steadfast appends" turn_ours "$round"
    check "in-turn: round $round, Java appends" turn_java "$round"
  done
}

# turn_after NAME: all dumps agree, nothing of the turn before is missing; NAME becomes the last.
turn_after() {
  local dir=$scratch/turn dump
  both_agree "$dir/store" "$dir/$1" || return 1
  for dump in ours "${versions[@]}"; do
    compare sound "$dir/$1.$dump.jsonl" || return 1
    if [ -f "$dir/last.jsonl" ]; then
      compare keeps "$dir/last.jsonl" "$dir/$1.$dump.jsonl" || return 1
    fi
  done
  verify "$dir/store" || return 1
  cp "$dir/$1.ours.jsonl" "$dir/last.jsonl"
}

turn_begin() {
  java_store 5.3.1 write "$scratch/turn/store" "mixed,count=40,seed=21,$java_geometry" || return 1
  turn_after begin
}

turn_ours() {
  local dir=$scratch/turn name=$scratch/turn/put.$1 flush=async specs=() i
  [ -f "$dir/last.jsonl" ] || { echo "the turn before failed"; return 1; }
  [ $(($1 % 2)) = 0 ] && flush=sync
  messages "$name.1" TopicA 0 TagA "Aa key-$1" "20$1" 300 && put "$dir/store" "$name.1" "$flush" || return 1
  messages "$name.2" TopicNew$1 0 "" BB "21$1" 50 --max 5000 && put "$dir/store" "$name.2" "$flush" || return 1
  messages "$name.3" TopicB 1 TagB "" "22$1" 20 && put "$dir/store" "$name.3" "$flush" || return 1
  for i in 1 2 3; do specs+=("$name.$i.plan:$name.$i.acked"); done
  cp "$dir/last.jsonl" "$dir/base.jsonl" || return 1
  turn_after "ours-$1" || return 1
  for i in ours "${versions[@]}"; do
    compare put "$dir/ours-$1.$i.jsonl" --base "$dir/base.jsonl" "${specs[@]}" || return 1
  done
}

turn_java() {
  local dir=$scratch/turn version=${versions[$(($1 % 2))]} before after
  [ -f "$dir/last.jsonl" ] || { echo "the turn before failed"; return 1; }
  before=$(wc -l <"$dir/last.jsonl")
  java_store "$version" append "$dir/store" 60 "seed=3$1,clock=real,$java_geometry" || return 1
  turn_after "java-$1" || return 1
  after=$(wc -l <"$dir/last.jsonl")
  [ "$after" -ge $((before + 120)) ] || { echo "Java $version appended too little: $before, $after lines"; return 1; }
}

# ---------------------------------------------------------------- main

main() {
  local what=${1:-all}
  need python3
  need java
  scratch=$(mktemp -d "${TMPDIR:-/tmp}/steadfast-interop.XXXXXX")
  [ "${INTEROP_KEEP:-0}" = 1 ] && echo "scratch directory: $scratch" || trap 'rm -rf "$scratch"' EXIT
  case $what in
    build) build_java; return ;;
    self) build_java; run_self ;;
    golden) run_golden ;;
    put-then-java) build_java; run_put_then_java ;;
    in-turn) build_java; run_in_turn ;;
    all)
      build_java
      run_self
      run_golden
      run_put_then_java
      run_in_turn
      ;;
    *) echo "usage: run.sh [build|self|golden|put-then-java|in-turn|all]" >&2; exit 2 ;;
  esac
  echo "$passed passed, $failed failed"
  [ "$failed" = 0 ]
}

main "$@"
