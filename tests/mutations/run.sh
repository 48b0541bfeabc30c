#!/bin/sh
# Breaks the engine in one way after another and shows that the simulation notices, or the model of
# its waiting: for each patch here, how many schedules it took. Fails if a patch survives or does not apply any more.
#
#   tests/mutations/run.sh [name...]      STEADFAST_SEEDS=20000 schedules at most
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
seeds=${STEADFAST_SEEDS:-20000}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$root"
git ls-files -z | xargs -0 cp --parents -t "$scratch"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$root/target}/mutations" RUST_BACKTRACE=0
cd "$scratch"
survivors=0
test $# -gt 0 || set -- $(cd "$root/tests/mutations" && ls ./*.patch | sed 's|^\./||; s|\.patch$||')
for name in "$@"; do
    patch -s -p1 < "$root/tests/mutations/$name.patch"
    if ! cargo test -q --release --test it --no-run > build.log 2>&1; then
        cat build.log
        echo "$name: does not build"
        exit 1
    fi
    if ! STEADFAST_SEEDS=$seeds cargo test -q --release --test it -- \
        --exact --nocapture sim::crash_sim::crash_sim > run.log 2>&1; then
        how=$(sed -n 's/^crash_sim: failed after //p' run.log | head -n 1)
        echo "$name: caught by crash_sim after $how"
    elif ! cargo test -q --release --test it -- sim:: > run.log 2>&1; then
        how=$(sed -n 's/^test \(sim::.*\) \.\.\. FAILED.*/\1/p; s/^    \(sim::[a-z_:]*\)$/\1/p' run.log | sort -u | head -n 1)
        echo "$name: caught by ${how:-a scripted test}"
    elif ! cargo test -q --release --test interleavings > run.log 2>&1; then
        echo "$name: caught by interleavings, a deadlock"
    else
        echo "$name: SURVIVED $seeds schedules"
        survivors=$((survivors + 1))
    fi
    patch -s -R -p1 < "$root/tests/mutations/$name.patch"
done
test "$survivors" -eq 0
