#!/usr/bin/env python3
"""Runs the cases of plan.py one at a time, interleaved by rounds, and appends one JSON line per measurement.

  bench.py [--only PEER[,PEER]] [--case REGEX] [--rounds N] [--quick] [--out FILE] [--list]

--quick runs a twentieth of the messages: it shows that a case works, its numbers say nothing.

Environment:
  PERF_DIR    scratch directory on the disk under test (default: a new temporary directory)
  PERF_BUILD  where build.sh put the binaries and jars (default: PERF_DIR/build)
  PERF_LOCK   a lock file shared with other measurers; held for up to PERF_HOLD seconds at a time (default 240)
  PERF_PREWARM bytes of memory to touch before each case (virtual machines that return free pages to the host; default 0)
  PERF_NICE   niceness of the measured process (default 0; negative needs root)
Every line gets other_cpu: the cores that processes outside the run used meanwhile. Distrust lines where it is high.
"""
import argparse, fcntl, json, os, random, re, shutil, subprocess, sys, tempfile, time
import plan

def cpu():
    v = list(map(int, open('/proc/stat').readline().split()[1:9]))
    return sum(v) - v[3] - v[4], v[4], v[7]          # busy, iowait, steal in ticks

def main():
    ap = argparse.ArgumentParser()
    ap.add_argument('--only', default='')
    ap.add_argument('--case', default='.')
    ap.add_argument('--rounds', type=int, default=3)
    ap.add_argument('--out', default='results.jsonl')
    ap.add_argument('--quick', action='store_true')
    ap.add_argument('--list', action='store_true')
    a = ap.parse_args()
    scratch = os.environ.get('PERF_DIR') or ('$PERF_DIR' if a.list else tempfile.mkdtemp(prefix='perf-'))
    build = os.environ.get('PERF_BUILD') or os.path.join(scratch, 'build')
    only = [x for x in a.only.split(',') if x]
    cases = [c for c in plan.cases(build, a.quick) if (not only or c.peer in only) and re.search(a.case, c.id)]
    if a.list:
        for c in cases: print(c.peer, c.id, ' '.join(c.cmd))
        return
    lock, held = None, 0.0
    hz = os.sysconf('SC_CLK_TCK')
    with open(a.out, 'a') as out:
        for rnd in range(a.rounds):
            order = cases[:]
            random.Random(rnd).shuffle(order)
            for c in order:
                if os.environ.get('PERF_LOCK'):
                    if lock and time.time() - held > float(os.environ.get('PERF_HOLD', 240)):
                        lock.close(); lock = None; time.sleep(0.2)
                    if not lock:
                        lock = open(os.environ['PERF_LOCK'], 'a'); fcntl.flock(lock, fcntl.LOCK_EX); held = time.time()
                d = os.path.join(scratch, 'run'); shutil.rmtree(d, ignore_errors=True); os.makedirs(d)
                os.sync()
                cmd = [x.replace('{dir}', d) for x in c.cmd]
                n = int(os.environ.get('PERF_NICE', 0))
                if int(os.environ.get('PERF_PREWARM', 0)):
                    subprocess.run([os.path.join(build, 'limits'), 'prewarm', 'bytes=' + os.environ['PERF_PREWARM']], preexec_fn=(lambda: os.nice(n)) if n else None)
                b0, w0, s0 = cpu(); t0 = time.time(); r0 = os.times()
                try:
                    p = subprocess.run(cmd, capture_output=True, text=True, timeout=c.timeout, preexec_fn=(lambda: os.nice(n)) if n else None)
                    so, se, rc = p.stdout, p.stderr, p.returncode
                except OSError as e:                        # not built: report it and go on
                    so, se, rc = '', str(e), 127
                except subprocess.TimeoutExpired as e:
                    so, se, rc = (e.stdout or b'').decode() if isinstance(e.stdout, bytes) else (e.stdout or ''), 'timeout', 124
                b1, w1, s1 = cpu(); dt = time.time() - t0; r1 = os.times()
                mine = (r1.children_user - r0.children_user) + (r1.children_system - r0.children_system)
                other = max(0.0, ((b1 - b0) / hz - mine) / dt)
                got = 0
                for line in so.splitlines():
                    if not line.startswith('{'): continue
                    try: j = json.loads(line)
                    except ValueError: continue
                    if a.quick: j['quick'] = True
                    j.update(id=c.id, w=c.w, run=rnd, other_cpu=round(other, 2), iowait=round((w1 - w0) / hz / dt, 2), wall=round(dt, 1))
                    out.write(json.dumps(j) + '\n'); got += 1
                    print(f"[{time.strftime('%H:%M:%S')}] {c.id:44s} {j.get('case','')[:28]:28s} msgs/s={j.get('msgs_s', j.get('syncs_s', '-'))} mb/s={j.get('mb_s','-')} p50={j.get('p50_us','-')} p99={j.get('p99_us','-')} max={j.get('max_us','-')} other={other:.2f}", flush=True)
                if not got:
                    out.write(json.dumps(dict(id=c.id, w=c.w, run=rnd, peer=c.peer, error=(se or so)[-400:], rc=rc)) + '\n')
                    print(f"FAILED {c.id} rc={rc}: {(se or so)[-400:]}", flush=True)
                out.flush()
                shutil.rmtree(d, ignore_errors=True)
    if not os.environ.get('PERF_DIR'): shutil.rmtree(scratch, ignore_errors=True)

main()
