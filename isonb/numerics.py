"""One number for all that decides a result: raised on purpose when results change beyond rounding, and only then.

A record remembers the number under which it was made, and a sweep runs it again once that has been raised. Renames,
comments and faster code outdate nothing: what a change does to results is measured, not guessed from its text. A test
trains, probes and fine-tunes tiny networks of every block, encoding and objective in double precision and compares the
outcome with committed numbers, so that neither a changed result without a new number nor a new number without a changed
result goes unseen. `python -m tests.golden` writes those numbers anew.

Book: chapter "Run it yourself".
"""

from __future__ import annotations

CHANGES = {
    1: "the first numbers, those of all results before this list was kept",
}
NUMERICS = max(CHANGES)


def since(theirs: int) -> str:
    """What has changed since a record of the number `theirs`, in words; empty where nothing has."""
    return "; ".join(CHANGES[number] for number in sorted(CHANGES) if number > theirs)
