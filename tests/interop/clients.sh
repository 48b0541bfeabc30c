#!/usr/bin/env bash
# Real RocketMQ clients against `steadfast serve`, one line a scenario.
#
#   tests/interop/clients.sh [PROFILE|all]
#
# main          the Java client: sends, consumers of all kinds, retries, delays, transactions
# noauto        the same client, topics are not made by themselves
# flushtimeout  the broker waits 0 ms for the disk
# optional      messages for any time; what a broker may decline
# admin         mqadmin: the commands of admin.txt
# story         SYNC_FLUSH; while a Java producer and two consumers run, the broker is killed ten times
# cluster       a real RocketMQ broker beside this one, at a real name server and at this one
# handover      a real broker's directory is served on by this one, and handed back
# go            the Go client
# rust          the Rust client (builds for many minutes)
# all           everything but cluster, handover and rust (the default)
#
# Needs a JDK 17, mvn, cargo; go for its part, which is skipped without. STEADFAST_BIN names a tool
# that is built already; ROCKETMQ_CLIENT another version of the Java client than those below.
# Exit status: 0 all passed, 1 something failed.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
# The Java clients that `all` runs: the one that everything here was made with, and the newest.
versions=(5.3.3 5.5.0)
[ -z "${ROCKETMQ_CLIENT:-}" ] || versions=("$ROCKETMQ_CLIENT")
version=${versions[0]}
java_dir=$here/clients/java
target=$java_dir/target
scratch=$(mktemp -d)
serving=
failed=0

cleanup() {
  [ -z "$serving" ] || kill -KILL "$serving" 2>/dev/null || true
  [ -e "$target/real" ] && real stop || true
  rm -rf "$scratch"
}
trap cleanup EXIT

need() {
  command -v "$1" >/dev/null || { echo "interop: $1 is missing" >&2; exit 1; }
}

build_tool() {
  [ -z "${STEADFAST_BIN:-}" ] || return 0
  need cargo
  STEADFAST_BIN=$(cd "$root" && cargo build --release -p steadfast-cli --bin steadfast \
    --message-format json </dev/null 2>/dev/null |
    python3 -c 'import json, sys
for line in sys.stdin:
    print(json.loads(line).get("executable") or "", end="\n")' | grep . | tail -n 1)
}

build_java() {
  local mark=$target/$version/.complete
  [ -f "$mark" ] && [ -z "$(find "$java_dir/src" "$java_dir/pom.xml" -newer "$mark")" ] && return
  need mvn
  echo "building the Java client $version"
  rm -rf "${target:?}/$version"
  mvn -q -B -f "$java_dir/pom.xml" "-Drocketmq.version=$version" package </dev/null
  touch "$mark"
}

# serve NAME ARGS...: starts a broker with a new directory; sets $broker and $names.
serve() {
  local name=$1 ready
  shift
  mkdir "$scratch/$name"
  case "$*" in *--namesrv*) ;; *) set -- "$@" --namesrv-listen 127.0.0.1:0 ;; esac
  "$STEADFAST_BIN" serve --data "$scratch/$name/data" --listen 127.0.0.1:0 "$@" \
    >"$scratch/$name/out" 2>"$scratch/$name/err" &
  serving=$!
  until grep -qs '^ready ' "$scratch/$name/out"; do
    kill -0 "$serving" 2>/dev/null || { cat "$scratch/$name/err" >&2; exit 1; }
    sleep 0.1
  done
  ready=$(cat "$scratch/$name/out")
  broker=${ready#*broker=} broker=${broker%% *}
  names=${ready#*namesrv=} names=${names%% *}
}

# stop NAME: ends it as an operator does; that has to work, and to leave nothing behind.
stop() {
  kill -TERM "$serving"
  if ! wait "$serving" || [ -e "$scratch/$1/data/abort" ]; then
    echo "FAIL $1: the broker was not stopped cleanly"
    failed=1
  fi
  serving=
  "$STEADFAST_BIN" verify "$scratch/$1/data" >"$scratch/$1/verify" 2>&1 ||
    { echo "FAIL $1: verify"; tail -n 5 "$scratch/$1/verify"; failed=1; }
}

# clients NAME COMMAND...: runs a client and shows its scenarios.
client() {
  local name=$1
  shift
  (cd "$scratch/$name" && "$@") >"$scratch/$name/client" 2>&1 || failed=1
  grep -aE '^(PASS|FAIL|SKIP) |^[0-9]+ passed' "$scratch/$name/client" || {
    tail -n 20 "$scratch/$name/client"
    failed=1
  }
}

# acceptance NAME [-Dproperty...] -- ARGS...: the Java client's scenarios.
acceptance() {
  local name=$1 properties=()
  shift
  while [ "$1" != -- ]; do properties+=("$1"); shift; done
  shift
  client "$name" java "-Duser.home=$scratch/$name" "${properties[@]}" \
    -cp "$target/$version/rocketmq-java-acceptance-1.jar:$target/$version/lib/*" interop.Main "$@"
}

java_profile() {
  local profile=$1 name=$1-$version
  shift
  echo "== Java client $version, profile $profile"
  build_java
  serve "$name" "$@"
  acceptance "$name" -- --namesrv "$names" --profile "$profile"
  stop "$name"
}

main() { java_profile main -o transactionCheckInterval=5000; }
noauto() { java_profile noauto -o autoCreateTopicEnable=false; }
flushtimeout() { java_profile flushtimeout -o flushDiskType=SYNC_FLUSH -o syncFlushTimeout=0; }
optional() { java_profile optional; }

# All commands in one process: to start one for each takes minutes.
admin() {
  local name=admin-$version
  echo "== mqadmin $version"
  build_java
  serve "$name"
  cp "$here/clients/java/admin.txt" "$scratch/$name/"
  client "$name" java "-Duser.home=$scratch/$name" \
    -cp "$target/$version/rocketmq-java-acceptance-1.jar:$target/$version/lib/*" \
    interop.Admin admin.txt "$names" "$broker"
  stop "$name"
}

story() {
  echo "== Java client $version, the broker is killed; what the client repeats is stored once"
  build_java
  mkdir "$scratch/story"
  acceptance story "-Ddata=$scratch/story/data" -Donce=true \
    "-Dserve=$STEADFAST_BIN serve -o flushDiskType=SYNC_FLUSH -o idempotentSend=true" \
    -- --namesrv none --profile story
  "$STEADFAST_BIN" verify "$scratch/story/data" >"$scratch/story/verify" 2>&1 ||
    { echo "FAIL story: verify"; tail -n 5 "$scratch/story/verify"; failed=1; }
}

# real COMMAND: the real RocketMQ of tests/interop/clients/java/run-real-rocketmq.sh.
real() {
  ROCKETMQ_VERSION=$version "$java_dir/run-real-rocketmq.sh" "$1" "$target/real" </dev/null
}

cluster() {
  build_java
  export NS_PORT=19876 BROKER_PORT=10911
  real stop
  real wipe
  echo "== Java client $version, a real broker and this one at a real name server"
  real start
  serve real-names -o brokerName=broker-b --namesrv "127.0.0.1:$NS_PORT"
  acceptance real-names -- --profile cluster --namesrv "127.0.0.1:$NS_PORT"
  stop real-names
  real stop
  echo "== Java client $version, a real broker and this one at this name server"
  serve own-names -o brokerName=broker-b
  REGISTER_VIA=$names NS_PORT=${names##*:} real broker
  acceptance own-names -- --profile cluster --namesrv "$names"
  real stop
  stop own-names
}

# handover: real, ours, real, ours, real on one directory, first stopped and then killed.
handover() {
  local signal real_pid=$target/real/broker.pid
  build_java
  export NS_PORT=19876 BROKER_PORT=10911
  real stop
  real wipe
  real start
  for signal in TERM KILL; do
    echo "== Java client $version, one broker goes on where the other got SIG$signal"
    phase "real-$signal" fill "real-$signal"
    kill "-$signal" "$(cat "$real_pid")"
    while kill -0 "$(cat "$real_pid")" 2>/dev/null; do sleep 0.2; done
    mkdir "$scratch/handover-$signal"
    "$STEADFAST_BIN" serve -c "$target/real/broker.conf" >"$scratch/handover-$signal/out" 2>&1 &
    serving=$!
    phase "ours-$signal" drain "real-$signal"
    phase "ours-$signal-2" fill "ours-$signal"
    kill "-$signal" "$serving"
    wait "$serving" || true
    serving=
    real broker
    phase "back-$signal" drain "ours-$signal"
  done
  real stop
}

# phase NAME SCENARIO ROUND
phase() {
  mkdir "$scratch/$1"
  acceptance "$1" "-Dround=$3" -- --namesrv "127.0.0.1:$NS_PORT" --profile handover --only "$2"
}

go_client() {
  echo "== Go client"
  command -v go >/dev/null || { echo "SKIP go: there is no Go here"; return; }
  mkdir "$scratch/go-build"
  cp "$here"/clients/go/*.go "$here"/clients/go/go.* "$scratch/go-build"
  if ! (cd "$scratch/go-build" && go mod download </dev/null) 2>"$scratch/go-build/log"; then
    echo "SKIP go: its modules cannot be fetched: $(tail -n 1 "$scratch/go-build/log")"
    return
  fi
  (cd "$scratch/go-build" && go build -mod=mod -o acceptance . </dev/null)
  serve go
  client go "$scratch/go-build/acceptance" -namesrv "$names" -broker "$broker"
  stop go
}

rust_client() {
  echo "== Rust client"
  (cd "$here/clients/rust" && cargo build -q --target-dir "$here/clients/rust/target" </dev/null)
  serve rust
  client rust "$here/clients/rust/target/debug/rocketmq-rust-acceptance" "$names"
  stop rust
}

build_tool
case ${1:-all} in
  main | noauto | flushtimeout | optional | admin | story | cluster | handover) "$1" ;;
  go) go_client ;;
  rust) rust_client ;;
  all)
    for version in "${versions[@]}"; do
      main
      noauto
      flushtimeout
      optional
      admin
    done
    version=${versions[0]}
    story
    go_client
    ;;
  *)
    sed -n '2,/^set /s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
[ "$failed" = 0 ] || { echo "clients: something failed" >&2; exit 1; }
echo "clients: all passed"
