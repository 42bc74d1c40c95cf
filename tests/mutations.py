"""Random damage to a file, as disks, transfers and other programs do it, and what became of it."""

import json
import os
import random

COUNT = int(os.environ.get("ISONB_MUTATIONS", "300"))  # of each kind of file; `make bench BENCH=faults` tries thousands


def tally(kind: str, tried: int, noticed: int) -> None:
    """Tell `make bench BENCH=faults` of so many damages of a kind, none of which has changed a number.

    Those that were not noticed had changed nothing that is read.
    """
    if path := os.environ.get("ISONB_TALLY"):
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"kind": kind, "tried": tried, "noticed": noticed}) + "\n")


def mutated(content: bytes, chance: random.Random) -> bytes:
    """The content with a few bits flipped, cut off at the end, with a hole of zeros, or with something inserted."""
    first = chance.randrange(len(content))
    if chance.random() < 0.5:
        first = min(first, chance.randrange(len(content)) % 4096)  # half of it where most files have their header
    length = chance.choice((1, 2, 8, 64, 512))
    kind = chance.choice(("flip", "flip", "cut", "hole", "insert", "remove", "repeat"))
    if kind == "flip":
        damaged = bytearray(content)
        for place in [first, *chance.choices(range(len(content)), k=chance.choice((0, 0, 0, 1, 7)))]:
            damaged[place] ^= 1 << chance.randrange(8)
        return bytes(damaged)
    middle = {
        "cut": b"",
        "hole": bytes(min(length, len(content) - first)) + content[first + length :],
        "insert": chance.randbytes(length) + content[first:],
        "remove": content[first + length :],
        "repeat": content[first : first + length] + content[first:],
    }
    return content[:first] + middle[kind]
