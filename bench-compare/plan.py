"""The cases: what each engine runs for the workloads W1 to W5. README.md has the output contract."""
import os
from collections import namedtuple

Case = namedtuple('Case', 'peer id w cmd timeout')
BODIES = (128, 1024, 4096)
# Messages per run: 1.0 to 1.6 GB of log, under the kernel's dirty-page throttle on a 24 GiB machine.
N = {128: 4_000_000, 1024: 1_200_000, 4096: 320_000}
WAITERS = ((1, 1500), (16, 12_000), (64, 40_000), (256, 120_000))
OUTSTANDING = (16, 64, 256, 1024)
US, RMQ, CHRONICLE = 'steadfast', 'rocketmq-java', 'chronicle'


def java(build, main, lib, *args, heap='4g'):
    opens = []
    for package in ('java.lang', 'java.io', 'java.nio', 'java.util', 'java.lang.reflect'):
        opens += ['--add-opens', f'java.base/{package}=ALL-UNNAMED']
    for package in ('sun.nio.ch', 'jdk.internal.ref', 'jdk.internal.misc'):
        opens += ['--add-exports', f'java.base/{package}=ALL-UNNAMED']
        opens += ['--add-opens', f'java.base/{package}=ALL-UNNAMED']
    opens += ['--add-opens', 'jdk.compiler/com.sun.tools.javac=ALL-UNNAMED']
    opens += ['--add-exports', 'jdk.unsupported/sun.misc=ALL-UNNAMED']
    return (['java', f'-Xms{heap}', f'-Xmx{heap}', '-XX:MaxDirectMemorySize=8g', '-XX:+UseG1GC',
             '-XX:+AlwaysPreTouch', '-Duser.home={dir}', '-Dchronicle.analytics.disable=true']
            + opens + ['-cp', f'{build}/classes-{lib}:{build}/lib-{lib}/*', f'perf.{main}', *args])


def store_cases(add, name, run, blocking, futures):
    """The workloads that RocketMQ's store and ours both have. `run` makes a command line;
    `blocking` and `futures` are what the two call the sync cases."""
    for body in BODIES:
        for threads in (1, 4):
            add(name, f'W1-{name}-{body}-t{threads}', 'W1',
                run('append', 'case=async', f'body={body}', f'threads={threads}', f'n={N[body]}'))
    for waiters, n in WAITERS:
        add(name, f'W2-{name}-t{waiters}', 'W2',
            run('append', 'case=sync', 'flush=sync', 'body=1024', f'{blocking}={waiters}', f'n={n}',
                f'warmup={max(waiters * 20, 300)}'))
    for outstanding in OUTSTANDING:
        add(name, f'W2-{name}-pipe-t{outstanding}', 'W2',
            run(futures[0], 'case=sync', f'name={name}-pipelined', 'flush=sync', 'body=1024',
                f'{futures[1]}={outstanding}'))
    for body, queues, n in ((1024, 1, 800_000), (1024, 8, 800_000), (128, 8, 2_000_000)):
        small = '' if body == 1024 else f'-{body}'
        add(name, f'W3-{name}{small}-q{queues}', 'W3',
            run('read', 'case=read', f'body={body}', f'queues={queues}', f'n={n}'))
    add(name, f'W3-{name}-tail', 'W3', run('tail', 'case=tail', 'rate=10000', 'n=50000'))
    recovery = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'recovery.sh')
    for end in ('clean', 'kill'):
        add(name, f'W4-{name}-{end}', 'W4',
            ['bash', recovery, end, '--'] + run('CMD', 'body=1024', 'n=2000000'), 300)
    for queues in (1, 1000, 10_000, 100_000):
        add(name, f'W5-{name}-q{queues}', 'W5',
            run('append', 'case=async', f'queues={queues}', 'body=128', 'n=2000000',
                f'warmup={max(200_000, queues)}', 'cqfile=20000'), 300)


def limit_cases(add, build):
    limits = os.path.join(build, 'limits')
    for body in BODIES:
        for mode, crc in (('mmap-populated', 0), ('mmap-populated', 1), ('mmap-falloc', 1),
                          ('pwrite-falloc', 1)):
            add('limits', f'L1-copy-{mode}-crc{crc}-{body}', 'L1',
                [limits, 'copy', f'mode={mode}', f'crc={crc}', f'body={body}', 'dir={dir}'])
    add('limits', 'L1-fault', 'L1', [limits, 'fault', 'dir={dir}'])
    for batch in (4096, 65536, 1 << 20):
        for mode, file in (('pwrite+fdatasync', 'empty'), ('pwrite+fdatasync', 'falloc'),
                           ('pwrite+fdatasync', 'zeroed'), ('mmap+fdatasync', 'falloc'),
                           ('mmap+fdatasync', 'zeroed')):
            add('limits', f'L2-{mode}-{file}-{batch}', 'L2',
                [limits, 'fsync', f'mode={mode}', f'file={file}', f'batch={batch}', 'ms=1500',
                 'dir={dir}'])
    for threads in (16, 64, 256):
        add('limits', f'L2-wake-{threads}', 'L2', [limits, 'wake', f'threads={threads}', 'rounds=1000'])
    add('limits', 'L3-seqread', 'L3', [limits, 'seqread', 'dir={dir}'])
    add('limits', 'L3-seqwrite', 'L3', [limits, 'seqwrite', 'dir={dir}'])
    add('limits', 'L5-mapcount', 'L5', [limits, 'mapcount', 'dir={dir}'])


def chronicle_cases(add, build):
    def run(*args):
        return java(build, 'Chronicle', CHRONICLE, *args, 'dir={dir}')

    for body in BODIES:
        add(CHRONICLE, f'W1-{CHRONICLE}-{body}-t1', 'W1',
            run('append', 'case=async', f'body={body}', 'threads=1', f'n={N[body]}'))
    add(CHRONICLE, f'W1-{CHRONICLE}-1024-t4', 'W1',
        run('append', 'case=async', 'body=1024', 'threads=4', f'n={N[1024]}'))
    add(CHRONICLE, f'W3-{CHRONICLE}-q1', 'W3', run('read', 'case=read', 'body=1024', 'n=800000'))
    add(CHRONICLE, f'W3-{CHRONICLE}-tail', 'W3', run('tail', 'case=tail', 'rate=10000', 'n=50000'))


def shorter(cmd):
    """The same command line with a twentieth of the messages: to see that a case runs at all."""
    out = []
    for word in cmd:
        key, _, value = word.partition('=')
        if key in ('n', 'warmup', 'warm') and value.isdigit():
            word = f'{key}={max(int(value) // 20, 300)}'
        out.append(word)
    return out


def cases(build, quick=False):
    out = []

    def add(peer, name, w, cmd, timeout=180):
        out.append(Case(peer, name, w, shorter(cmd) if quick else cmd, timeout))

    limit_cases(add, build)
    bench = os.path.join(build, 'engine-bench')
    store_cases(add, US, lambda *args: [bench, *args, 'dir={dir}'],
                'waiters', ('futures', 'outstanding'))
    store_cases(add, RMQ, lambda *args: java(build, 'RocketMq', 'rocketmq', *args, 'dir={dir}'),
                'threads', ('pipe', 'threads'))
    for threads in (1, 4):  # Java's off-heap write buffer, its fastest setting for small machines
        add(RMQ, f'W1-{RMQ}-pool-1024-t{threads}', 'W1',
            java(build, 'RocketMq', 'rocketmq', 'append', 'case=async', f'name={RMQ}+pool', 'pool=1',
                 'body=1024', f'threads={threads}', f'n={N[1024]}', 'dir={dir}'))
    chronicle_cases(add, build)
    return out
