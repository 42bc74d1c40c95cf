"""How the processes of one start recognise each other among what an earlier start has left.

Book: chapter "Training".
"""

from __future__ import annotations

import time
import uuid
from typing import Any

PATIENCE = 0.01  # seconds between two looks


def agree_on_name(store: Any, rank: int, size: int) -> str:
    """A name that every rank of this start returns and no earlier one has used; `store` is torch's key-value store.

    torchrun keeps its store when it restarts workers, with the addresses of those that died; a process group under a
    name of its own sees none of them, where it would wait for the dead. A rank asks with a token that nobody has used
    and rank 0 answers the newest token of each rank until that rank has read the answer.
    """
    if rank > 0:
        token = uuid.uuid4().hex
        store.set(f"asks/{rank}", token)
        name = store.get(f"answer/{token}").decode()  # waits for it
        store.set(f"{name}/{rank}", "read")
        return name
    name, others = uuid.uuid4().hex, set(range(1, size))
    while others:
        for other in others:
            store.set(f"answer/{store.get(f'asks/{other}').decode()}", name)
        time.sleep(PATIENCE)
        others = {other for other in others if not store.check([f"{name}/{other}"])}
    return name
