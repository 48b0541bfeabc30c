#!/usr/bin/env python3
"""ratios.py RESULTS.jsonl [--max-other CORES] [--strict]: our engine against the bars of the project.

Each ratio is of the medians of both engines in this file; `per round` is the range of the ratios
within one round each. Ratios under 1.5 want five interleaved rounds on a quiet machine. With
--strict the exit status is 1 if a bar is missed or not measured, or a run was a --quick one.
"""
import argparse
import collections
import json
import statistics
import sys

US, RMQ, CHRONICLE = 'steadfast', 'rocketmq-java', 'chronicle'
Bar = collections.namedtuple('Bar', 'what ours peer theirs kind bar')


def bars():
    """kind `up`: ours / theirs of a rate; `down`: theirs / ours of a time; `most`: ours as it is."""
    out = []

    def rate(what, ours, theirs, bar, field='msgs_s', peer_field=None, peer=RMQ):
        out.append(Bar(what, (ours, field), peer, (theirs, peer_field or field), 'up', bar))

    for body in (128, 1024, 4096):
        for threads, bar in ((1, 6.0), (4, 5.0)):
            rate(f'async append, {body} B, {threads} producers, until the last queue entry',
                 f'W1-{US}-{body}-t{threads}', f'W1-{RMQ}-{body}-t{threads}', bar, 'e2e_msgs_s')
    for threads in (1, 4):
        rate(f'async append, 1024 B, {threads} producers, its transientStorePool',
             f'W1-{US}-1024-t{threads}', f'W1-{RMQ}-pool-1024-t{threads}', None, 'e2e_msgs_s')
    for body in (128, 1024, 4096):
        rate(f'async append, {body} B, 1 producer, until the last queue entry',
             f'W1-{US}-{body}-t1', f'W1-{CHRONICLE}-{body}-t1', 1.0, 'e2e_msgs_s', 'msgs_s', CHRONICLE)
    for waiters, bar in ((1, 1.5), (16, 2.0), (64, 2.5), (256, 2.0)):
        rate(f'sync append, {waiters} waiters', f'W2-{US}-t{waiters}', f'W2-{RMQ}-t{waiters}', bar)
    for outstanding, bar in ((16, None), (64, None), (256, None), (1024, 3.0)):
        rate(f'sync append, one thread, {outstanding} outstanding',
             f'W2-{US}-pipe-t{outstanding}', f'W2-{RMQ}-pipe-t{outstanding}', bar)
    rate('read, 1 queue, 1 KiB', f'W3-{US}-q1', f'W3-{RMQ}-q1', None)
    rate('read, 8 queues, 1 KiB', f'W3-{US}-q8', f'W3-{RMQ}-q8', 2.5)
    rate('read, 8 queues, 128 B', f'W3-{US}-128-q8', f'W3-{RMQ}-128-q8', 2.5)
    out.append(Bar('append to visible, 10,000 a second, p50 us', (f'W3-{US}-tail', 'p50_us'),
                   RMQ, (f'W3-{RMQ}-tail', 'p50_us'), 'most', 25.0))
    out.append(Bar("open 2 GB after SIGKILL against Java's load", (f'W4-{US}-kill', 'open_ms'),
                   RMQ, (f'W4-{RMQ}-kill', 'load_ms'), 'down', 3.0))
    out.append(Bar('open 2 GB after a clean close, ms', (f'W4-{US}-clean', 'open_ms'),
                   RMQ, (f'W4-{RMQ}-clean', 'load_ms'), 'most', 35.0))
    for queues in (1, 1000, 10_000, 100_000):
        rate(f'{queues} queues, 128 B, until the last queue entry',
             f'W5-{US}-q{queues}', f'W5-{RMQ}-q{queues}', None, 'e2e_msgs_s')
    for queues in (10_000, 100_000):
        rate(f'{queues} queues against our own 1 queue', f'W5-{US}-q{queues}', f'W5-{US}-q1', 0.8, peer=US)
    return out


def load(path, max_other):
    runs, failed, quick = collections.defaultdict(lambda: collections.defaultdict(list)), [], False
    with open(path, encoding='utf-8') as file:
        for line in file:
            run = json.loads(line)
            if 'error' in run:
                failed.append(run)
            elif run.get('other_cpu', 0) <= max_other:
                runs[run['id']][run['run']].append(run)
                quick |= run.get('quick', False)
    return runs, failed, quick


def values(runs, name):
    """The field of the case: all values, and the median of each round."""
    case, field = name
    rounds = {number: [run[field] for run in lines if field in run]
              for number, lines in runs.get(case, {}).items()}
    rounds = {number: found for number, found in rounds.items() if found}
    every = [value for found in rounds.values() for value in found]
    return every, {number: statistics.median(found) for number, found in rounds.items()}


def ratio(kind, ours, theirs):
    if not theirs or not ours:
        return None
    return theirs / ours if kind != 'up' else ours / theirs


def number(value):
    return '-' if value is None else f'{value:,.0f}' if value >= 1000 else f'{value:.2f}'


def row(bar, runs):
    """The cells of one line, and whether the bar is met (None: not measured or no bar)."""
    ours, our_rounds = values(runs, bar.ours)
    theirs, their_rounds = values(runs, bar.theirs)
    mine = statistics.median(ours) if ours else None
    other = statistics.median(theirs) if theirs else None
    times = ratio(bar.kind, mine, other)
    within = [ratio(bar.kind, our_rounds[r], their_rounds[r]) for r in our_rounds if r in their_rounds]
    within = [found for found in within if found is not None]
    spread = f'{min(within):.2f}-{max(within):.2f}' if within else '-'
    if bar.bar is None:
        met, wanted = None, '-'
    elif bar.kind == 'most':
        met, wanted = (None if mine is None else mine <= bar.bar), f'<= {bar.bar:g}'
    else:
        met, wanted = (None if times is None else times >= bar.bar), f'>= {bar.bar:g} x'
    verdict = '' if bar.bar is None else {True: 'met', False: '**missed**', None: 'not measured'}[met]
    cells = (bar.what, bar.peer, number(mine), number(other), '-' if times is None else f'{times:.2f} x',
             spread, str(len(our_rounds)), wanted, verdict)
    return cells, met


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('file')
    parser.add_argument('--max-other', type=float, default=99.0)
    parser.add_argument('--strict', action='store_true')
    args = parser.parse_args()
    runs, failed, quick = load(args.file, args.max_other)
    if quick:
        print('**Some lines are of --quick runs: the numbers say nothing.**\n')
    print('| case | against | ours | theirs | ratio | per round | rounds | bar | |')
    print('| --- | --- | ---: | ---: | ---: | --- | ---: | --- | --- |')
    bad = quick
    for bar in bars():
        cells, met = row(bar, runs)
        if bar.bar is not None and met is not True:
            bad = True
        print('| ' + ' | '.join(cells) + ' |')
    for run in failed:
        print(f"\nFAILED {run['id']}: rc {run.get('rc')}: {run['error'][-160:]!r}")
    sys.exit(1 if args.strict and bad else 0)


if __name__ == '__main__':
    main()
