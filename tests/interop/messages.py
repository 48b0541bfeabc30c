#!/usr/bin/env python3
"""Makes messages for `steadfast put`: one body a line, the same for the same arguments.

  messages.py BODIES PLAN --topic T --queue N [--tag S] [--key S]
              --seed N --count N [--min BYTES] [--max BYTES] [--empty]

BODIES gets the bodies, PLAN one JSON object a message: what compare.py will look for.
With --empty the last message has no body at all.
"""
import argparse
import hashlib
import json
import random

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789 ,.;{}\"'\\\t"
OTHER = "\u00e4\u00df\u20ac\u4f60\u597d\U0001f600"


def body(rng, size):
    text = rng.choices(LETTERS, k=size)
    if size >= 16 and rng.random() < 0.2:
        text[rng.randrange(size - 4)] = rng.choice(OTHER)
    return "".join(text).encode("utf-8")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bodies")
    parser.add_argument("plan")
    parser.add_argument("--topic", required=True)
    parser.add_argument("--queue", type=int, required=True)
    parser.add_argument("--tag")
    parser.add_argument("--key")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--min", type=int, default=1)
    parser.add_argument("--max", type=int, default=400)
    parser.add_argument("--empty", action="store_true")
    args = parser.parse_args()
    rng = random.Random(args.seed)
    with open(args.bodies, "wb") as bodies, open(args.plan, "w", encoding="ascii") as plan:
        for index in range(args.count):
            data = body(rng, rng.randint(args.min, args.max))
            if args.empty and index == args.count - 1:
                data = b""
            bodies.write(data + b"\n")
            expected = {
                "topic": args.topic,
                "queueId": args.queue,
                "tag": args.tag,
                "key": args.key,
                "bodySha": hashlib.sha256(data).hexdigest()[:32],
                "bodyLen": len(data),
            }
            plan.write(json.dumps(expected) + "\n")


if __name__ == "__main__":
    main()
