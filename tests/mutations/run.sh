#!/bin/bash
# Breaks the engine in one way after another and shows that the suite notices: for each patch here,
# what caught it, after how many schedules or seconds. Fails if a patch survives, does not build or
# does not apply any more.
#
#   tests/mutations/run.sh [name...]
#
#   STEADFAST_SEEDS=20000       schedules of the crash simulation at most
#   STEADFAST_SCHEDULES=5000    schedules of each model of the threads at most
#
# Asked in this order: the crash simulation, the models of the threads, the simulation's scripted
# tests and those of real threads, the unit tests.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
export STEADFAST_SEEDS=${STEADFAST_SEEDS:-20000} STEADFAST_SCHEDULES=${STEADFAST_SCHEDULES:-5000}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$root"
git ls-files -z | xargs -0 cp --parents -t "$scratch"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$root/target}/mutations" RUST_BACKTRACE=0
cd "$scratch"

# The first of the test binaries' lines that says what failed.
failed() {
  sed -n 's/^test \(.*\) \.\.\. FAILED.*/\1/p; s/^    \([a-z_:]*::[a-z_:]*\)$/\1/p' "$1" | sort -u | head -n 1
}

caught_by() {
  begun=$SECONDS
  # A mutant may wait for ever: that, too, is noticed.
  if ! timeout 900 cargo test -q --release --test it -- \
    --exact --nocapture sim::crash_sim::crash_sim >run.log 2>&1; then
    how=$(sed -n 's/^crash_sim: failed after //p' run.log | head -n 1)
    echo "crash_sim|${how:-stopped}"
  elif begun=$SECONDS; ! timeout 300 cargo test -q --release --test interleavings >run.log 2>&1; then
    how=$(sed -n 's/^test \(.*\) \.\.\. FAILED after \([0-9]*\) schedules.*/\1|\2 schedules/p' run.log | head -n 1)
    echo "${how:-interleavings|stopped}"
  elif begun=$SECONDS; ! timeout 600 cargo test -q --release --test it -- sim:: concurrency:: \
    futures:: corruption:: >run.log 2>&1; then
    how=$(failed run.log)
    echo "${how:-a scripted test}|$((SECONDS - begun)) s"
  elif begun=$SECONDS; ! timeout 900 cargo test -q --release --lib >run.log 2>&1; then
    how=$(failed run.log)
    echo "${how:-a unit test}|$((SECONDS - begun)) s"
  else
    echo "SURVIVED|$STEADFAST_SEEDS schedules"
  fi
}

bad=0
table=
test $# -gt 0 || set -- $(cd "$root/tests/mutations" && ls ./*.patch | sed 's|^\./||; s|\.patch$||')
for name in "$@"; do
  patch=$root/tests/mutations/$name.patch
  patch -s -p1 <"$patch"
  begun=$SECONDS
  if cargo test -q --release --test it --test interleavings --no-run >build.log 2>&1; then
    found=$(caught_by)
  else
    cat build.log
    found='DOES NOT BUILD|'
  fi
  case $found in SURVIVED* | DOES*) bad=$((bad + 1)) ;; esac
  area=$(sed -n 's/^Area: //p' "$patch" | head -n 1)
  line=$(printf '| %s | %s | %s | %s |' "$name" "$area" "${found%%|*}" "${found#*|}")
  echo "$line ($((SECONDS - begun)) s with the build)"
  table="$table$line
"
  patch -s -R -p1 <"$patch"
done
printf '\n| mutation | area | caught by | after |\n|---|---|---|---|\n%s\n' "$table"
echo "$# mutations, $bad not caught"
test "$bad" -eq 0
