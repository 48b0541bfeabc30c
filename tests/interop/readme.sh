#!/usr/bin/env bash
# The README's clients, from exactly its text, against `steadfast serve` as the README starts it.
#
#   tests/interop/readme.sh [java|go|rust|all]
#
# all is java and go; rust builds for many minutes. CARGO_TARGET_DIR keeps what it builds, and
# RUST_LOCK names a Cargo.lock to build it with. STEADFAST_BIN names a tool that is built already.
# Takes the ports 9876 and 10911. Exit status: 0 all passed, 1 something failed.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
scratch=$(mktemp -d)
running=()
failed=0

cleanup() {
  for pid in "${running[@]}"; do kill -KILL "$pid" 2>/dev/null || true; done
  rm -rf "$scratch"
}
trap cleanup EXIT

# Each fenced block that begins with a comment of one path is that file of its language's project.
extract() {
  awk -v root="$scratch" '
    /^```/ {
      language = substr($0, 4); sub(/,.*/, "", language); sub(/toml/, "rust", language)
      fresh = 1; file = ""; next
    }
    fresh && language != "" && /^(\/\/|#) [A-Za-z\/]+\.(java|go|rs|toml)$/ {
      file = root "/" language "/" $2
      directory = file; sub(/\/[^\/]*$/, "", directory); system("mkdir -p " directory)
    }
    { fresh = 0 }
    file != "" { print > file }
  ' "$root/README.md"
}

serve() {
  if [ -z "${STEADFAST_BIN:-}" ]; then
    (cd "$root" && cargo build -q --release -p steadfast-cli --bin steadfast </dev/null)
    STEADFAST_BIN=${CARGO_TARGET_DIR:-$root/target}/release/steadfast
  fi
  mkdir "$scratch/$1-broker"
  (cd "$scratch/$1-broker" && exec "$STEADFAST_BIN" serve) >"$scratch/$1-broker/out" 2>&1 &
  running=($!)
  until grep -qs '^ready ' "$scratch/$1-broker/out"; do
    kill -0 "${running[0]}" 2>/dev/null || { cat "$scratch/$1-broker/out" >&2; exit 1; }
    sleep 0.1
  done
}

# check LANGUAGE WORD PRODUCER -- CONSUMER: the producer says WORD, the consumer gets the message.
check() {
  local language=$1 word=$2 producer=() tries=0
  shift 2
  while [ "$1" != -- ]; do producer+=("$1"); shift; done
  shift
  cd "$scratch/$language"
  serve "$language"
  timeout 120 "${producer[@]}" >produced 2>&1 || true
  "$@" >consumed 2>&1 &
  running+=($!)
  until grep -qs 'two coffees' consumed || [ $((tries += 1)) -gt 600 ]; do sleep 0.1; done
  if grep -q "$word" produced && grep -qs 'two coffees' consumed; then
    echo "PASS readme-$language"
  else
    echo "FAIL readme-$language"
    tail -n 20 produced consumed
    failed=1
  fi
  kill "${running[@]}"
  wait "${running[@]}" 2>/dev/null || true
  running=()
}

dependency() {
  sed -n "s:^<details><summary><b>$1</b>.*<code>\(.*\)</code></summary>\$:\1:p" "$root/README.md"
}

java_client() {
  command -v mvn >/dev/null || { echo "readme: mvn is missing" >&2; exit 1; }
  local group artifact version
  IFS=: read -r group artifact version <<<"$(dependency Java)"
  cat >"$scratch/java/pom.xml" <<POM
<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>demo</groupId><artifactId>demo</artifactId><version>1</version><dependencies><dependency>
<groupId>$group</groupId><artifactId>$artifact</artifactId><version>$version</version>
</dependency></dependencies></project>
POM
  (cd "$scratch/java" && mvn -q -B dependency:copy-dependencies -DoutputDirectory=lib </dev/null)
  local java=(java "-Duser.home=$scratch/java" -cp 'lib/*')
  check java SEND_OK "${java[@]}" Producer.java -- "${java[@]}" Consumer.java
}

go_client() {
  command -v go >/dev/null || { echo "SKIP readme-go: there is no Go here"; return; }
  (
    cd "$scratch/go"
    go mod init demo
    # shellcheck disable=SC2046 # the words of a command
    $(dependency Go)
    go build -mod=mod -o producer.bin ./producer
    go build -mod=mod -o consumer.bin ./consumer
  ) >"$scratch/go/log" 2>&1 </dev/null || { cat "$scratch/go/log"; failed=1; return; }
  check go sendStatus=0 ./producer.bin -- ./consumer.bin
}

rust_client() {
  (
    cd "$scratch/rust"
    [ -z "${RUST_LOCK:-}" ] || cp "$RUST_LOCK" Cargo.lock
    CARGO_PROFILE_DEV_DEBUG=0 cargo build -q --bins
  ) </dev/null || { failed=1; return; }
  local bin=${CARGO_TARGET_DIR:-$scratch/rust/target}/debug
  check rust SendOk "$bin/producer" -- "$bin/consumer"
}

extract
case ${1:-all} in
  java | go | rust) "$1_client" ;;
  all) java_client; go_client ;;
  *) sed -n '2,/^set /s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
exit "$failed"
