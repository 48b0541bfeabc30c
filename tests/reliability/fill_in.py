#!/usr/bin/env python3
"""Puts a table into a page, between two markers: fill_in.py PAGE DIRECTORY.

The faults at rest are put into groups, each a table of its own. The page has lines `<!-- begin NAME -->` and `<!-- end NAME -->`; the directory has NAME.md.
"""

import re
import sys
from pathlib import Path


GROUPS = [
    ("Nothing done to it", ("nothing",)),
    ("One bit of a record", ("flip", "magic")),
    ("Torn ends, zeroed pages", ("zero", "cut")),
    ("Files of the log", ("segment", "foreign", "recycled", "stale", "record")),
    ("Queues, index, checkpoints, positions", ("",)),
]


def grouped(table):
    """The rows of the table under a heading for each group."""
    head, line, *rows = table.splitlines()
    parts = []
    for title, words in GROUPS:
        mine = [row for row in rows if row[2:].startswith(words)]
        rows = [row for row in rows if row not in mine]
        if mine:
            parts.append("\n".join([f"### {title}", "", head, line, *mine]))
    return "\n\n".join(parts)


def main():
    page, directory = Path(sys.argv[1]), Path(sys.argv[2])
    text = page.read_text()

    def filled(match):
        table = (directory / f"{match[2]}.md").read_text().strip()
        table = grouped(table) if match[2] == "summary" else table
        return f"{match[1]}\n\n{table}\n\n{match[3]}"

    text, count = re.subn(
        r"(<!-- begin (\w+) -->)\n.*?(<!-- end \2 -->)", filled, text, flags=re.DOTALL
    )
    if count == 0:
        sys.exit(f"{page} has no markers")
    page.write_text(text)


main()
