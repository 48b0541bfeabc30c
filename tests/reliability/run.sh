#!/usr/bin/env bash
# Throws the same faults at Steadfast and at the real RocketMQ store and writes the fault table.
#
#   tests/reliability/run.sh [full|short] [ARGUMENTS of `torture peers`]
#
# full   every fault at both Java versions; writes results.jsonl and table.md here, and the summary
#        into docs/reliability.md between its two markers. About ten minutes
# short  a few faults at one Java version; writes nothing into the tree
#
# Needs a JDK 17, Maven, cargo and python3; strace and the right to mount a tmpfs for some rows,
# which are skipped without. Exit status 0: ours kept everything it promises.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
what=${1:-full}
[ $# -gt 0 ] && shift

"$root/tests/interop/run.sh" build
(cd "$root" && cargo build --release --quiet -p steadfast-torture </dev/null)
target=$(cd "$root" && cargo metadata --no-deps --format-version 1 </dev/null |
  python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')
torture=$target/release/torture
driver=$root/tests/interop/store-java/target

case $what in
  short)
    out=$(mktemp -d)
    trap 'rm -rf "$out"' EXIT
    "$torture" peers --driver "$driver" --versions 5.5.1 --short --out "$out" "$@"
    ;;
  full)
    "$torture" peers --driver "$driver" --out "$here" "$@"
    python3 "$here/fill_in.py" "$root/docs/reliability.md" "$here"
    ;;
  *)
    echo "usage: run.sh [full|short] [ARGUMENTS]" >&2
    exit 2
    ;;
esac
