"""A download that goes on where the last try stopped; pooch checks the whole file's checksum afterwards.

pooch's own downloaders start from the first byte at every try: a connection that breaks often never gets to the end.
"""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import requests
from tqdm import tqdm

CHUNK = 2**16  # bytes; less than this is lost when a connection breaks
TIMEOUT = 30  # seconds without a byte
LARGEST = 2**32  # bytes; the largest archive has 2.6 billion, and a server may send without end


def resume(url: str, output_file: str | Path, pooch: object = None) -> None:
    """Fetch `url` into `output_file` by way of a `.part` file in the same folder, with a progress bar.

    A broken download leaves the part, and the next call asks the server for the rest; a server that does not know
    ranges sends the whole again. Raises `requests.RequestException`, an OSError, when it does not get to the end, and
    another OSError for more than `LARGEST` bytes.
    pooch calls it, with a third argument that is not needed here.
    """
    part = Path(output_file).parent / f"{url.rpartition('/')[2]}.part"
    if os.path.lexists(part) and not part.is_file():
        part.unlink()
    have = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as reply:
        if reply.status_code == requests.codes.requested_range_not_satisfiable:
            part.unlink()  # longer than the file: it cannot be a part of it
        reply.raise_for_status()
        goes_on = reply.status_code == requests.codes.partial_content
        rest = int(reply.headers.get("Content-Length", 0))
        have = have if goes_on else 0
        with (
            part.open("ab" if goes_on else "wb") as file,
            tqdm(desc=part.stem, total=have + rest, initial=have, unit="B", unit_scale=True) as bar,
        ):
            for chunk in reply.iter_content(CHUNK):
                bar.update(file.write(chunk))
                if file.tell() > LARGEST:
                    part.unlink()
                    raise OSError(errno.EFBIG, "the server sends more than an archive of images has", url)
    shutil.move(part, output_file)
