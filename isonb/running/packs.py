"""The form of a pack: files under one list of their names, lengths and SHA-256, as one file or in parts.

A pack is a tar archive that `tar tf` lists. Of all that such archives can be, it is one thing: the list, then each
file, in the list's order, without links, folders, owners or times. Every byte follows from the list and from the
contents, so equal contents are equal packs, and a reader compares each header with the only one that can stand there:
nothing that an archive says is acted upon. A part is such an archive of two files: which part it is, and its bytes.

Book: chapter "Run it yourself".
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import pydantic

from isonb import disk
from isonb.validation import ConfigError, in_brief

LIST, PART, SLICE = "pack.json", "part.json", "slice"
BLOCK = 512  # bytes of a header; a tar archive pads each file to a multiple of them
END = bytes(2 * BLOCK)
AROUND = 3 * BLOCK + len(END)  # bytes of a part that are none of the pack's: two headers, which part it is, and its end
LIST_LIMIT = 16 * disk.MEBIBYTE  # bytes of the list, enough for a hundred thousand files
FILE_LIMIT = 8 * 2**30 - 1  # bytes of a file that a plain header can tell
CHUNK = disk.MEBIBYTE
MOST_PARTS = 999
SMALLEST_PART = 64 * 2**10

Length = Annotated[int, pydantic.Field(ge=0, le=FILE_LIMIT)]
SHA256 = Annotated[str, pydantic.Field(pattern="^[0-9a-f]{64}$")]


class PackError(ConfigError):
    """A pack that cannot be written or used; its message says which file, why, and what to do."""


class _Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", strict=True, frozen=True)


class Entry(_Strict):
    """A file in a pack."""

    name: str
    size: Length
    sha256: SHA256


class Contents(_Strict):
    """What a pack says of itself: the versions that made it, the study that it is of, and its files."""

    format: int
    isonb: str
    schema_version: int
    numerics: int
    study: str
    files: list[Entry]

    def sealed(self) -> bytes:
        """The list as it stands in a pack, with its own SHA-256."""
        return _sealed(self.model_dump())

    def digest(self) -> str:
        """The SHA-256 that tells this pack from any other: that of its list, on which every byte depends."""
        return hashlib.sha256(self.sealed()).hexdigest()


class Part(_Strict):
    """Which part of which pack a file is; `size` are its bytes of the pack."""

    pack: SHA256
    part: Annotated[int, pydantic.Field(ge=1, le=MOST_PARTS)]
    of: Annotated[int, pydantic.Field(ge=1, le=MOST_PARTS)]
    size: Annotated[int, pydantic.Field(ge=1, le=FILE_LIMIT)]


def _sealed(content: dict[str, Any]) -> bytes:
    text = json.dumps(content, sort_keys=True, indent=1)
    return json.dumps(
        content | {"sha256": hashlib.sha256(text.encode()).hexdigest()}, sort_keys=True, indent=1
    ).encode()


def _unsealed(content: bytes) -> dict[str, Any]:
    """What was sealed. Raises `disk.Unreadable` for what was changed since."""
    values = disk.parse_json(content)
    if not isinstance(values, dict):
        raise disk.Unreadable("it holds no list")
    rest = {name: value for name, value in values.items() if name != "sha256"}
    if _sealed(rest) != content:
        raise disk.Unreadable("its list is not what was written")
    return rest


def _header(name: str, size: int) -> bytes:
    """The one header that a file of this name and length can have. Raises `ValueError` where there is none."""
    about = tarfile.TarInfo(name)
    about.size = size
    return about.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict")


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def length(contents: Contents) -> int:
    """Bytes of a whole pack."""
    sizes = [len(contents.sealed()), *(entry.size for entry in contents.files)]
    return sum(BLOCK + _padded(size) for size in sizes) + len(END)


# Writing


def write(path: Path, contents: Contents, read: Callable[[Entry], bytes], part_size: int = 0) -> list[Path]:
    """Write a pack as one file, or as files of at most so many bytes, and return the files.

    `read` gives a file's content. Files of an earlier pack are replaced. Raises `PackError` where anything else has the
    name, where a content is not what the list says, and where there would be more than 999 parts.
    """
    if _number(path):
        raise PackError(f"{path.name} is a name of a part: choose one that does not end in a number.")
    whole = length(contents)
    slice_size = part_size // BLOCK * BLOCK - AROUND if 0 < part_size < whole else 0
    count = -(-whole // slice_size) if slice_size else 1
    if count > MOST_PARTS:
        raise PackError(f"{count:,} parts of {part_size:,} bytes are more than {MOST_PARTS}: give larger ones.")
    names = [path] if count == 1 else [part_path(path, number) for number in range(1, count + 1)]
    earlier = [path, *(one for one in path.parent.glob(f"{_escaped(path.name)}.*") if _number(one))]
    for one in {*names, *earlier}:
        _require_replaceable(one)
    if len(names) == 1:
        with disk.written(path) as file:
            for piece in _pieces(contents, read):
                file.write(piece)
    else:
        _write_parts(names, contents, read, slice_size)
    for one in {*earlier} - {*names}:  # of a pack that had more parts, or none
        one.unlink(missing_ok=True)
    return names


def _escaped(name: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", name)


def part_path(path: Path, number: int) -> Path:
    """Where a part of the pack `path` lies."""
    return path.with_name(f"{path.name}.{number:03d}")


def _number(path: Path) -> int:
    """Which part a file's name says that it is; 0 where it says nothing of the kind."""
    return int(path.suffix[1:]) if re.fullmatch(r"\.\d{3}", path.suffix) else 0


def _require_replaceable(path: Path) -> None:
    """Raise `PackError` where there is something that is no pack."""
    if path.is_symlink() or path.exists():
        with contextlib.suppress(disk.Unreadable, OSError), _file(path) as file:
            if _name(file.read(BLOCK)) in (LIST, PART):
                return
        raise PackError(f"{path} is there and is no pack: choose another name, or remove it.")


def _pieces(contents: Contents, read: Callable[[Entry], bytes]) -> Iterator[bytes]:
    """The bytes of a pack, file by file."""
    listed = contents.sealed()
    yield from (_header(LIST, len(listed)), listed, bytes(_padded(len(listed)) - len(listed)))
    for entry in contents.files:
        content = read(entry)
        if len(content) != entry.size or hashlib.sha256(content).hexdigest() != entry.sha256:
            raise PackError(f"{entry.name} has changed while it was packed: run the same command again.")
        yield from (_header(entry.name, entry.size), content, bytes(_padded(entry.size) - entry.size))
    yield END


def _write_parts(names: Sequence[Path], contents: Contents, read: Callable[[Entry], bytes], slice_size: int) -> None:
    pieces, rest, left = _pieces(contents, read), b"", length(contents)
    for number, name in enumerate(names, 1):
        size = min(slice_size, left)
        about = _sealed(Part(pack=contents.digest(), part=number, of=len(names), size=size).model_dump())
        with disk.written(name) as file:
            file.write(_header(PART, len(about)) + about + bytes(_padded(len(about)) - len(about)))
            file.write(_header(SLICE, size))
            wanted = size
            while wanted:
                piece = rest or next(pieces)
                file.write(piece[:wanted])
                piece, rest = piece[:wanted], piece[wanted:]
                wanted -= len(piece)
            file.write(bytes(_padded(size) - size) + END)
        left -= size


# Reading


class Pack:
    """A pack that is read from its beginning to its end, once; what is not as it must be raises `PackError`."""

    def __init__(self, files: Sequence[tuple[Path, BinaryIO, int]], of: str = "") -> None:
        self.files, self.number, self.taken = files, 0, 0
        self.contents = self._contents()
        if of and self.contents.digest() != of:
            raise self.damaged("its parts are not of the pack that they name")
        if length(self.contents) != sum(size for _, _, size in files):
            raise self.damaged("it is not as long as its list says")

    def each(self) -> Iterator[tuple[Entry, bytes]]:
        """Every file, in the list's order; the pack is whole when there are no more."""
        for entry in self.contents.files:
            if self._read(BLOCK) != _header(entry.name, entry.size):
                raise self.damaged(f"{entry.name} does not begin where it should")
            content = self._read(entry.size)
            if hashlib.sha256(content).hexdigest() != entry.sha256:
                raise self.damaged(f"the content of {entry.name} is not what was packed")
            self._skip(entry.size)
            yield entry, content
        if self._read(len(END)) != END:
            raise self.damaged("its end is not what was written")

    def damaged(self, why: str) -> PackError:
        """The error that says what is wrong with the file at hand."""
        return _damaged(self.files[min(self.number, len(self.files) - 1)][0], why)

    def _contents(self) -> Contents:
        start = self._read(BLOCK)
        size = _size(start)
        if not 0 < size <= LIST_LIMIT or start != _header(LIST, size):
            raise self.damaged("it does not begin with a list of its files")
        content = self._read(size)
        self._skip(size)
        try:
            contents = Contents(**_unsealed(content))
            headers = {entry.name: _header(entry.name, entry.size) for entry in contents.files}
        except ValueError as error:
            raise self.damaged(in_brief(str(error))) from None
        if len(headers) < len(contents.files):
            raise self.damaged("a file stands in its list twice")
        return contents

    def _skip(self, size: int) -> None:
        """Read what pads a file."""
        if any(self._read(_padded(size) - size)):
            raise self.damaged("something stands where nothing should")

    def _read(self, size: int) -> bytes:
        """So many bytes, from as many parts as it takes."""
        pieces = []
        while size:
            if self.number == len(self.files):
                raise self.damaged("it is cut off")
            _, file, whole = self.files[self.number]
            piece = file.read(min(size, whole - self.taken))
            if not piece and self.taken < whole:
                raise self.damaged("it is cut off")
            pieces.append(piece)
            size, self.taken = size - len(piece), self.taken + len(piece)
            if self.taken == whole:
                if any(file.read(len(END) + BLOCK)):  # what ends a part
                    raise self.damaged("something stands where nothing should")
                self.number, self.taken = self.number + 1, 0
        return b"".join(pieces)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Pack]:
    """The pack `path`, whose list has been read; of one in parts, `path` is its name without a number, or any part's.

    Raises `PackError` where there is none, where parts are missing or of different packs, and for what is no pack.
    """
    with contextlib.ExitStack() as stack:
        files, of = [], ""
        for one in _parts(path):
            try:
                file = stack.enter_context(_file(one))
                size = disk.size(one, 2**62)
                if not _number(one):
                    files.append((one, file, size))
                    continue
                about = _about(file, size)
            except (disk.Unreadable, ValueError) as error:
                raise _damaged(one, in_brief(str(error))) from None
            of = of or about.pack
            if about.pack != of:
                raise PackError(f"{one} is a part of another pack than {files[0][0].name}: put the right one there.")
            if about.part != len(files) + 1:
                raise PackError(f"{one} is part {about.part} of its pack: give it back the name that it had.")
            files.append((one, file, about.size))
            if about.part == 1:
                _require_all(one, about.of)
        yield Pack(files, of)


def _parts(path: Path) -> list[Path]:
    """The files of a pack, in order. Raises `PackError` where there are none, or two packs by one name."""
    base = path.with_suffix("") if _number(path) else path
    first = part_path(base, 1)
    if path.exists() and not _number(path):
        if first.exists():
            raise PackError(f"There are both {path} and {first}: remove the older one, or give it another name.")
        return [path]
    parts = []
    while (one := part_path(base, len(parts) + 1)).exists() and len(parts) < MOST_PARTS:
        parts.append(one)
    if not parts:
        raise PackError(f"{path} is not there: name a pack, or the first part of one, as {first.name}.")
    with contextlib.suppress(disk.Unreadable, ValueError), _file(parts[0]) as file:
        parts = parts[: _about(file, disk.size(parts[0], 2**62)).of]  # what follows is of an earlier pack
    return parts


def _require_all(first: Path, count: int) -> None:
    base = first.with_suffix("")
    missing = [path.name for number in range(1, count + 1) if not (path := part_path(base, number)).exists()]
    if missing:
        raise PackError(f"Of the pack {base}, {count} parts, {in_brief(', '.join(missing))} are missing: add them.")


@contextlib.contextmanager
def _file(path: Path) -> Iterator[BinaryIO]:
    """A regular file to read. Raises `disk.Unreadable` for anything else."""
    disk.size(path, 2**62)  # which does not open what it looks at
    try:
        file = path.open("rb")
    except OSError as error:
        raise disk.Unreadable(error.strerror or str(error)) from None
    with file:
        yield file


def _name(block: bytes) -> str:
    """The name in a header; empty where it is none."""
    with contextlib.suppress(tarfile.TarError, ValueError):
        return tarfile.TarInfo.frombuf(block, "ascii", "strict").name
    return ""


def _size(block: bytes) -> int:
    """The length in a header; 0 where it is none."""
    with contextlib.suppress(tarfile.TarError, ValueError):
        return tarfile.TarInfo.frombuf(block, "ascii", "strict").size
    return 0


def _about(file: BinaryIO, whole: int) -> Part:
    """Which part a file is; what is read next are its bytes of the pack. Raises `ValueError` where it is no part."""
    start = file.read(BLOCK)
    size = _size(start)
    if not 0 < size <= BLOCK * 8 or start != _header(PART, size):
        raise disk.Unreadable("it is neither a pack nor a part of one")
    part = Part(**_unsealed(file.read(_padded(size)).rstrip(b"\0")))
    begins = file.read(BLOCK) == _header(SLICE, part.size)
    if not begins or whole != 2 * BLOCK + _padded(size) + _padded(part.size) + len(END):
        raise disk.Unreadable("it is cut off, or something was added to it")
    return part


def _damaged(path: Path, why: str) -> PackError:
    return PackError(f"{path} cannot be used as a pack ({why.rstrip('.')}): copy it again from where it was made.")
