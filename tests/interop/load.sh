#!/usr/bin/env bash
# How fast `steadfast serve` and a real RocketMQ broker are, side by side: the same Java client and
# the same `steadfast bench send`, with equal settings, by turns. Prints a table.
#
#   tests/interop/load.sh
#
# Each turn is one broker, alone, on an empty store; brokers and client are warmed up before
# anything is measured. First one of the two begins, in the next round the other one.
#
#   ROUNDS=3       turns of each broker in each flush mode; the table has their medians
#   SECONDS_EACH=8 of each measurement
#   WARM=40        seconds before the first one: with 4 a JVM sends a fifth of what it does with 40
#   FLUSH="ASYNC_FLUSH SYNC_FLUSH"
#   QUICK=1        one round of 1 second each, a cold JVM: shows that it works, compares nothing
#   HEAP=2g        of the real broker
#   TMPDIR         where the stores are: choose the disk that is meant
#
# Needs a JDK 17, mvn, cargo, python3. STEADFAST_BIN names a tool that is built already (a release
# build); ROCKETMQ_CLIENT another version of RocketMQ (5.3.3). By hand, on a machine that does
# nothing else. Exit status 0: all was measured, and every send was answered with SEND_OK.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
version=${ROCKETMQ_CLIENT:-5.3.3}
java_dir=$here/clients/java
target=$java_dir/target
if [ -n "${QUICK:-}" ]; then
  rounds=${ROUNDS:-1} each=${SECONDS_EACH:-1} warm=${WARM:-2}
else
  rounds=${ROUNDS:-3} each=${SECONDS_EACH:-8} warm=${WARM:-40}
fi
flushes=${FLUSH:-ASYNC_FLUSH SYNC_FLUSH}
scratch=$(mktemp -d)
results=$scratch/results
serving=
# Ports of their own: another real broker may be there for the acceptance tests.
export NS_PORT=29876 BROKER_PORT=20911 ROCKETMQ_VERSION=$version HEAP=${HEAP:-2g} NICE=0
# What run-real-rocketmq.sh makes small for quick tests, as RocketMQ has it by default, and we do.
export EXTRA_BROKER_CONF="mappedFileSizeCommitLog=1073741824
mappedFileSizeConsumeQueue=6000000
maxIndexNum=20000000
maxHashSlotNum=5000000"

cleanup() {
  [ -z "$serving" ] || kill -KILL "$serving" 2>/dev/null || true
  [ ! -e "$scratch/real" ] || real stop || true
  rm -rf "$scratch"
}
trap cleanup EXIT

need() {
  command -v "$1" >/dev/null || { echo "load: $1 is missing" >&2; exit 1; }
}

real() {
  "$java_dir/run-real-rocketmq.sh" "$1" "$scratch/real" </dev/null >&2
}

build() {
  local mark=$target/.complete-$version
  if [ -z "${STEADFAST_BIN:-}" ]; then
    need cargo
    STEADFAST_BIN=$(cd "$root" && cargo build --release -p steadfast-cli --bin steadfast \
      --message-format json </dev/null 2>/dev/null |
      python3 -c 'import json, sys
for line in sys.stdin:
    print(json.loads(line).get("executable") or "", end="\n")' | grep . | tail -n 1)
  fi
  if [ ! -f "$mark" ] || [ -n "$(find "$java_dir/src" "$java_dir/pom.xml" -newer "$mark")" ]; then
    need mvn
    rm -rf "$target/classes" "$target/lib" "$target"/*.jar
    mvn -q -B -f "$java_dir/pom.xml" "-Drocketmq.version=$version" package </dev/null
    touch "$mark"
  fi
  "$java_dir/run-real-rocketmq.sh" libs "$target/real" </dev/null
}

# start ours|real FLUSH: sets $broker, $names, $pid.
start() {
  local ready
  if [ "$1" = real ]; then
    mkdir -p "$scratch/real"
    ln -sfn "$target/real/lib-$version" "$scratch/real/lib-$version"
    FLUSH=$2 real start
    broker=127.0.0.1:$BROKER_PORT names=127.0.0.1:$NS_PORT pid=$(cat "$scratch/real/broker.pid")
    return
  fi
  mkdir -p "$scratch/ours"
  "$STEADFAST_BIN" serve --data "$scratch/ours/data" --listen 127.0.0.1:0 \
    --namesrv-listen 127.0.0.1:0 -o "flushDiskType=$2" \
    >"$scratch/ours/out" 2>"$scratch/ours/err" &
  serving=$! pid=$!
  until grep -qs '^ready ' "$scratch/ours/out"; do
    kill -0 "$serving" 2>/dev/null || { cat "$scratch/ours/err" >&2; exit 1; }
    sleep 0.1
  done
  ready=$(cat "$scratch/ours/out")
  broker=${ready#*broker=} broker=${broker%% *}
  names=${ready#*namesrv=} names=${names%% *}
}

stop() {
  if [ "$1" = real ]; then
    real stop
    real wipe
    return
  fi
  kill -TERM "$serving"
  wait "$serving" || { echo "load: our broker was not stopped cleanly" >&2; exit 1; }
  serving=
  rm -rf "$scratch/ours"
}

pipelined() {
  "$STEADFAST_BIN" bench send --broker "$broker" --topic pipelined --pid "$pid" --seconds "$1" --json
}

# turn ours|real FLUSH
turn() {
  echo "load: $1, $2" >&2
  start "$1" "$2"
  mkdir -p "$scratch/client"
  java -Xmx1g "-Duser.home=$scratch/client" -Drocketmq.client.logRoot="$scratch/client" \
    -cp "$target/rocketmq-java-acceptance-1.jar:$target/lib/*" interop.Load \
    "$names" "$warm" "$each" >"$scratch/client/out" 2>&1 ||
    { tail -n 20 "$scratch/client/out" >&2; exit 1; }
  sed -n "s/^RESULT \(.*\)/$1 $2 \1/p" "$scratch/client/out" | tee -a "$results" >&2
  # Its own way of sending is warmed up, too.
  pipelined $(((warm + 1) / 2)) >/dev/null
  pipelined "$each" | python3 -c 'import json, sys
row = json.load(sys.stdin)
for name, key in (("sends/s", "messages_per_second"), ("sends/cpu-s", "messages_per_broker_cpu_second")):
    print(*sys.argv[1:], "pipelined-" + name, round(row[key], 1))' "$1" "$2" | tee -a "$results" >&2
  stop "$1"
}

table() {
  python3 - "$results" <<'PY'
import statistics, sys
found, order = {}, []
for line in open(sys.argv[1]):
    who, flush, case, value = line.split()
    if (flush, case) not in order:
        order.append((flush, case))
    found.setdefault((who, flush, case), []).append(float(value))
bad = 0
print("Medians (least to most). Over 1: ours is ahead; of times (-us) that is where it needs less.")
print(f"{'case':<36} {'ours':>28} {'real':>28} {'ratio':>7}")
for flush, case in order:
    ours, real = found[("ours", flush, case)], found[("real", flush, case)]
    if case in ("failed", "not-send-ok"):
        if any(ours + real):
            bad = 1
            print(f"{flush} {case}: ours {ours}, real {real}")
        continue
    def cell(values):
        return f"{statistics.median(values):,.0f} ({min(values):,.0f} to {max(values):,.0f})"
    a, b = statistics.median(ours), statistics.median(real)
    ratio = b / max(a, 0.1) if case.endswith("-us") else a / max(b, 0.1)
    print(f"{flush + ' ' + case:<36} {cell(ours):>28} {cell(real):>28} {ratio:>7.2f}")
sys.exit(bad)
PY
}

need java
need python3
build
for ((round = 1; round <= rounds; round++)); do
  for flush in $flushes; do
    order="ours real"
    [ $((round % 2)) = 1 ] || order="real ours"
    for who in $order; do turn "$who" "$flush"; done
  done
done
table
