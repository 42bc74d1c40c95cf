"""Named tensors as Hugging Face stores them: in one file, or in parts that an index lists.

Nobody vouches for a file: each is looked at before a number of it is read, and a part holds exactly the tensors that
the index puts there. One tensor at a time is in memory: a file of safetensors is opened for each, as what a process has
mapped counts until the file is closed; one of torch.save stays mapped, and the system takes back what it needs.

Book: chapter "image-GPT".
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor

from isonb import disk
from isonb.config import ConfigError

WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # the first is preferred, and each to the parts of its kind
INDEX = ".index.json"  # ends the name of the list of parts
DESCRIPTION = 2**20  # bytes that a file of JSON may have
LONGEST = 200  # characters of the name of a part
TYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


class HuggingFaceError(ConfigError):
    """A folder that holds no image-GPT that can be read; its message is one sentence."""


@dataclass(frozen=True)
class Stored:
    """A tensor that has yet to be read: in which file, of which shape, of how many bytes; `read` gives it.

    It `is_number` where its numbers have 16 or 32 bits and its own place.
    """

    path: Path
    shape: tuple[int, ...]
    is_number: bool
    size: int
    read: Callable[[], Tensor]


@contextlib.contextmanager
def told_of(path: Path) -> Iterator[None]:
    """What is `disk.Unreadable` in this block becomes a sentence about a file, as a `HuggingFaceError`."""
    try:
        yield
    except disk.Unreadable as error:
        raise HuggingFaceError(f"{path} cannot be read ({error}): copy it again from where it comes from.") from None


def json_object(path: Path) -> dict[str, Any]:
    """The object in a file of JSON. Raises `HuggingFaceError` for anything else."""
    with told_of(path):
        content = disk.read_json(path, DESCRIPTION)
    if not isinstance(content, dict):
        raise HuggingFaceError(f"{path} holds no JSON object: copy it again from where it comes from.")
    return content


def short(value: Any) -> str:
    """A value as a sentence has room for it."""
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) < 100 else f"{text[:100]}..."


def find(folder: Path) -> Path:
    """The file with the weights, or the list of its parts. Raises `HuggingFaceError` where there is neither."""
    names = (whole + end for whole in WEIGHTS for end in ("", INDEX))
    path = next((folder / name for name in names if os.path.lexists(folder / name)), None)
    if path is None:
        raise HuggingFaceError(f"{folder} has neither {WEIGHTS[0]} nor {WEIGHTS[1]}, whole or in parts: add them.")
    return path


def stored(path: Path, limit: int) -> dict[str, Stored]:
    """Every tensor in a file, or in the parts that it lists, which have at most `limit` bytes together.

    Raises `HuggingFaceError` for files that are damaged or something else, and for parts that are not as listed.
    """
    if not path.name.endswith(INDEX):
        return _of_file(path, limit)
    listed, found = _listed(path), {}
    for part in sorted({*listed.values()}):
        own = _of_part(path.with_name(part), listed, path.name, limit)
        limit -= path.with_name(part).stat().st_size
        found |= own
    return found


def _of_part(path: Path, listed: Mapping[str, str], index: str, limit: int) -> dict[str, Stored]:
    """The tensors of a part, which are those that the index puts there."""
    if not os.path.lexists(path):
        raise HuggingFaceError(f"{path} is missing, which {index} lists: add it.")
    found = _of_file(path, limit)
    with told_of(path):
        if lacking := sorted(name for name, part in listed.items() if part == path.name and name not in found):
            raise disk.Unreadable(f"it lacks {short(lacking[0])}, which {index} puts there")
        if foreign := sorted(name for name in found if listed.get(name) != path.name):
            where = f"into {listed[foreign[0]]}" if foreign[0] in listed else "nowhere"
            raise disk.Unreadable(f"it holds {short(foreign[0])}, which {index} puts {where}")
    return found


def require_own_numbers(tensors: Iterable[Stored]) -> None:
    """Raise `HuggingFaceError` where tensors take more bytes than their file has: many would be made of few."""
    size_of: dict[Path, int] = {}
    for one in tensors:
        size_of[one.path] = size_of.get(one.path, 0) + one.size
    for path, size in size_of.items():
        with told_of(path):
            if size > path.stat().st_size:
                raise disk.Unreadable("its tensors share their numbers")


def _listed(path: Path) -> dict[str, str]:
    """In which part each tensor is said to be, by the name of a file that lies beside the list and is of its kind."""
    listed, suffix = json_object(path).get("weight_map"), Path(path.name.removesuffix(INDEX)).suffix
    with told_of(path):
        if not isinstance(listed, dict) or not listed:
            raise disk.Unreadable("it lists no weights")
        for name, part in listed.items():
            is_name = isinstance(part, str) and part == Path(part).name and part.isprintable() and len(part) < LONGEST
            if not is_name or not part.endswith(suffix):
                raise disk.Unreadable(f"it puts {short(name)} into {short(repr(part))}, no {suffix} file beside it")
    return listed


def _of_file(path: Path, limit: int) -> dict[str, Stored]:
    with told_of(path):
        disk.size(path, limit)
        return (_of_safetensors if path.suffix == Path(WEIGHTS[0]).suffix else _of_pickle)(path)


def _of_safetensors(path: Path) -> dict[str, Stored]:
    try:
        with safetensors.safe_open(path, "pt") as file:
            stored_names = file.keys()
            parts = {name: file.get_slice(name) for name in stored_names}
            kinds = {name: (part.get_dtype(), tuple(part.get_shape())) for name, part in parts.items()}
    except (safetensors.SafetensorError, OSError) as error:
        raise disk.Unreadable(str(error)) from None
    bytes_of = {kind: dtype.itemsize for kind, dtype in TYPES.items()}
    return {
        name: Stored(
            path,
            shape,
            kind in TYPES,
            math.prod(shape) * bytes_of.get(kind, 0),
            functools.partial(_read_safetensors, path, name),
        )
        for name, (kind, shape) in kinds.items()
    }


def _read_safetensors(path: Path, name: str) -> Tensor:
    with told_of(path):
        try:
            with safetensors.safe_open(path, "pt") as file:
                return file.get_tensor(name)
        except (safetensors.SafetensorError, OSError) as error:  # it has changed since it was looked at
            raise disk.Unreadable(str(error)) from None


def _of_pickle(path: Path) -> dict[str, Stored]:
    """By torch's reader, which runs nothing that a file says, after a look at what its archive would unpack to."""
    try:
        with zipfile.ZipFile(path) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise disk.Unreadable("it is compressed, as torch.save writes no file")
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except disk.Unreadable:
        raise
    except Exception as error:  # zipfile, pickle and torch have many ways to fail on damaged input
        raise disk.Unreadable(short(str(error).partition("\n")[0] or type(error).__name__)) from None
    is_plain = isinstance(found, Mapping) and all(isinstance(name, str) for name in found)
    if not is_plain or not all(type(x) in (Tensor, torch.nn.Parameter) for x in found.values()):
        raise disk.Unreadable("it holds something else than named tensors")
    return {
        name: Stored(path, tuple(x.shape), _is_number(x), x.nbytes if _is_number(x) else 0, x.detach)
        for name, x in found.items()
    }


def _is_number(x: Tensor) -> bool:
    return x.layout is torch.strided and x.device.type == "cpu" and x.dtype in TYPES.values()
