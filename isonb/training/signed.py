"""A file of tensors with a checksum of itself, written tensor by tensor: no second copy of the weights is made.

It has the layout of safetensors, whose own writer puts the metadata in any order: here equal weights are equal files.

Book: chapter "Training".
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import torch

from isonb import disk, schema

SIGNATURE, UNSIGNED = '"checksum":"{}"', "0" * 64  # the latter stands there while the checksum is computed

KINDS = {  # the types that may be written, as safetensors calls them
    torch.float64: "F64", torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16", torch.int64: "I64",
    torch.int32: "I32",
}  # fmt: skip


def write(path: Path, text: str, tensors: dict[str, torch.Tensor]) -> schema.Weights:
    """Write the tensors, with a text in the metadata under `isonb`, and return what a record says of such a file.

    Raises an OSError where it cannot be written; what was there is still there.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    tensors = dict(sorted(tensors.items(), key=lambda item: (-item[1].itemsize, item[0])))
    head = _head(tensors, {"checksum": UNSIGNED, "isonb": text})
    bytes_of = [tensor.reshape(-1).view(torch.uint8).numpy() for tensor in tensors.values()]
    signature = SIGNATURE.format(_digest(*_around_signature(head, UNSIGNED), *bytes_of))
    head = head.replace(SIGNATURE.format(UNSIGNED).encode(), signature.encode(), 1)
    with disk.written(path) as file:
        for part in (head, *bytes_of):
            file.write(part)
    return schema.Weights(file=path.name, size=len(head) + sum(map(len, bytes_of)), sha256=_digest(head, *bytes_of))


def checksum(content: bytes, stated: str) -> str:
    """What the checksum of a file's content should be, of which the one that is stated is no part."""
    return _digest(*_around_signature(content, stated))


def _head(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> bytes:
    """What a file of safetensors begins with: its length, and in JSON where each tensor will stand, in this order."""
    entries: dict[str, object] = {"__metadata__": metadata}
    first = 0
    for name, tensor in tensors.items():
        place = [first, first + tensor.nbytes]
        entries[name] = {"dtype": KINDS[tensor.dtype], "shape": list(tensor.shape), "data_offsets": place}
        first = place[1]
    words = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    words += b" " * (-len(words) % 8)
    return len(words).to_bytes(8, "little") + words


def _around_signature(content: bytes, stated: str) -> tuple[memoryview, memoryview]:
    """What stands before and after the checksum; within JSON in the header its quotation marks would be escaped."""
    signature = SIGNATURE.format(stated).encode()
    first = content.find(signature)
    first = len(content) if first < 0 else first
    return memoryview(content)[:first], memoryview(content)[first + len(signature) :]


def _digest(*parts: bytes | memoryview | np.ndarray) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
