#!/usr/bin/env bash
# build.sh [java|rust|limits|engine]: builds what plan.py runs into $PERF_BUILD (default:
# $PERF_DIR/build). Needs cargo, a JDK 17, mvn. Nothing lands in this tree but Cargo.lock.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
: "${PERF_DIR:?set PERF_DIR to a scratch directory on the disk under test}"
build=${PERF_BUILD:-$PERF_DIR/build}
what=${1:-all}
mkdir -p "$build"
rust() {
  (cd "$here" && CARGO_TARGET_DIR=$build/target cargo build --release -p "$1" </dev/null)
  cp "$build/target/release/$1" "$build/"
}
java() {
  local lib main
  for lib in rocketmq:RocketMq chronicle:Chronicle; do
    main=${lib#*:} lib=${lib%%:*}
    mvn -q -B -f "$here/java/pom-$lib.xml" dependency:copy-dependencies \
      "-DoutputDirectory=$build/lib-$lib" </dev/null
    mkdir -p "$build/classes-$lib"
    javac -nowarn -cp "$build/lib-$lib/*" -d "$build/classes-$lib" \
      "$here/java/src/main/java/perf/Hist.java" "$here/java/src/main/java/perf/$main.java"
  done
}
case $what in
  all) rust limits; java; rust engine-bench ;;
  rust) rust limits; rust engine-bench ;;
  java) java ;;
  limits) rust limits ;;
  engine) rust engine-bench ;;
  *) echo "usage: build.sh [java|rust|limits|engine]" >&2; exit 2 ;;
esac
