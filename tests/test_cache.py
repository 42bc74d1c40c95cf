"""Decoded pictures are kept whole or not at all, found again by what they were made of, and never taken for others."""

import hashlib
import io
import json
import os
import random
import threading
from pathlib import Path

import filelock
import mutations
import numpy as np
import pooch
import pytest
from PIL import Image

from isonb.training.sources import DataError, cache, squares, tree

COUNT = 5


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A folder of five random pictures of 40 x 40, and a cache of its own."""
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / "cache" / name)
    for number in range(COUNT):
        path = tmp_path / "root" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels(number)).save(path)
    return tmp_path / "root"


def pixels(number):
    return np.random.default_rng(number).integers(0, 256, (40, 40, 3), np.uint8)


def request_for(root, size=40, fit="resize", order=(3, 1, 4, 0, 2)):
    """The files are in the order of their paths: pictures 0, 2, 4, 1 and 3."""
    return cache.Request(tree.walk(root), np.array(order), size, fit)


@pytest.fixture
def no_decoding(monkeypatch):
    return lambda: monkeypatch.setattr(squares, "read", lambda *_: pytest.fail("a picture was decoded"))


def refuse(*_, **__):
    raise OSError(28, "No space left on device")


def test_picture_i_is_the_file_that_the_order_names(root):
    decoded = cache.read(request_for(root))
    for number, expected in enumerate((1, 2, 3, 0, 4)):
        assert np.array_equal(decoded.pixels_BNC[number], pixels(expected).reshape(-1, 3))
        name = f"{'ab'[expected % 2]}/{expected}.png"
        about = decoded.about_B[number]
        assert bytes(about["sha256"]) == hashlib.sha256((root / name).read_bytes()).digest()
        assert about["content"] == squares.read(root / name, 40).content
        assert not about["is_enlarged"]
    assert cache.read(request_for(root, size=41)).about_B["is_enlarged"].all()


def test_chunks_and_threads_leave_every_picture_in_its_place(root, monkeypatch):
    monkeypatch.setattr(cache, "CHUNK", 2)
    monkeypatch.setattr(cache, "_threads", lambda: 3)
    decoded = cache.read(request_for(root))
    for number, expected in enumerate((1, 2, 3, 0, 4)):
        assert np.array_equal(decoded.pixels_BNC[number], pixels(expected).reshape(-1, 3))


def test_the_second_read_maps_what_the_first_has_kept(root, no_decoding):
    first = cache.read(request_for(root))
    no_decoding()
    second = cache.read(request_for(root))
    assert isinstance(second.pixels_BNC, np.memmap)
    assert Path(second.pixels_BNC.filename).is_relative_to(pooch.os_cache("isonb") / "folders")
    assert np.array_equal(first.pixels_BNC, second.pixels_BNC)
    assert np.array_equal(first.about_B, second.about_B)
    assert first.sha256 == second.sha256
    second.pixels_BNC[:] = 0  # a run's own business
    assert np.array_equal(first.pixels_BNC, cache.read(request_for(root)).pixels_BNC)


def test_every_change_of_a_request_has_another_place(root):
    places = [request_for(root).folder, request_for(root, size=32).folder, request_for(root, fit="crop").folder]
    places += [request_for(root, order=(0, 1, 2, 3, 4)).folder]
    status = (root / "a" / "0.png").stat()
    os.utime(root / "a" / "0.png", ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    places += [request_for(root).folder]
    (root / "a" / "0.png").write_bytes((root / "a" / "0.png").read_bytes() + b"\0")
    os.utime(root / "a" / "0.png", ns=(status.st_atime_ns, status.st_mtime_ns))
    places += [request_for(root).folder]
    (root / "a" / "0.png").rename(root / "a" / "00.png")
    places += [request_for(root).folder]
    assert len({*places}) == 7
    assert request_for(root).folder == places[-1]


def test_a_new_version_of_the_decoder_decodes_anew(root, monkeypatch):
    before = request_for(root).folder
    monkeypatch.setattr(squares, "VERSION", squares.VERSION + 1)
    assert request_for(root).folder != before


@pytest.mark.parametrize(
    "damage",
    [
        lambda place: (place / "pixels.npy").write_bytes((place / "pixels.npy").read_bytes()[:-1]),
        lambda place: flip(place / "pixels.npy"),
        lambda place: flip(place / "about.npy"),
        lambda place: (place / "pixels.npy").unlink(),
        lambda place: (place / "pixels.npy").write_bytes(b""),
        lambda place: (place / "about.json").write_text("{"),
        lambda place: (place / "about.json").write_text("[]"),
        lambda place: (place / "about.json").unlink(),
        lambda place: (place / "about.json").write_text("[" * 100_000),
        lambda place: (place / "about.json").write_text("null"),
        lambda place: (place / "about.json").write_text('{"pixels.npy": 1, "about.npy": 2}'),
        lambda place: (place / "about.json").write_bytes(b"\xff" * 100),
        lambda place: instead(place / "about.json", os.mkfifo),
        lambda place: instead(place / "about.npy", os.mkfifo),
        lambda place: instead(place / "pixels.npy", os.mkfifo),
        lambda place: instead(place / "pixels.npy", lambda path: path.symlink_to(path)),
        lambda place: os.mkfifo(place / "pixels.part") or (place / "pixels.npy").unlink(),
        lambda place: grow(place / "pixels.npy"),
        lambda place: grow(place / "about.npy"),
        lambda place: signed(place, "pixels.npy", header_of((10**13, 1600, 3), "|u1")),
        lambda place: signed(place, "pixels.npy", header_of((1600, COUNT, 3), "|u1")),
        lambda place: signed(place, "about.npy", header_of((COUNT,), "|O")),
        lambda place: signed(place, "about.npy", header_of((COUNT,), "<f8")),
        lambda place: signed(place, "about.npy", b"no array"),
    ],
)
def test_a_damaged_cache_is_made_anew(root, damage):
    first = cache.read(request_for(root))
    expected = first.pixels_BNC.copy()
    damage(request_for(root).folder)
    second = cache.read(request_for(root))
    assert np.array_equal(second.pixels_BNC, expected)
    assert second.sha256 == first.sha256
    assert isinstance(second.pixels_BNC, np.memmap)
    assert sorted(path.name for path in request_for(root).folder.iterdir()) == FILES


def instead(path, make):
    path.unlink()
    make(path)


def grow(path):
    """To 50 GB, which take no room on the disk."""
    with path.open("r+b") as file:
        file.truncate(50 * 2**30)


def header_of(shape, descr):
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": descr, "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def signed(place, name, header):
    """Another header, as long as the one before, in a file whose checksum is right."""
    content = header + (place / name).read_bytes()[len(header) :]
    (place / name).write_bytes(content)
    sums = json.loads((place / "about.json").read_text())
    (place / "about.json").write_text(json.dumps(sums | {name: hashlib.sha256(content).hexdigest()}))


def test_any_damage_of_the_cache_gives_the_same_pictures(root):
    chance, place, request = random.Random(0), request_for(root).folder, request_for(root)
    expected = cache.read(request)
    pixels_BNC, tries, made_anew = expected.pixels_BNC.copy(), mutations.COUNT // 30, 0
    for name in ("about.json", "about.npy", "pixels.npy"):
        content = (place / name).read_bytes()
        for _ in range(tries):
            (place / name).write_bytes(damaged := mutations.mutated(content, chance))
            assert cache.sha256(request) == expected.sha256
            decoded = cache.read(request)
            assert np.array_equal(decoded.pixels_BNC, pixels_BNC)
            assert np.array_equal(decoded.about_B, expected.about_B)
            assert decoded.sha256 == expected.sha256
            made_anew += (place / name).read_bytes() != damaged
    mutations.tally("cache of decoded pictures", 3 * tries, made_anew)


def flip(path):
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)


FILES = ["about.json", "about.npy", "lock", "pixels.npy"]


def test_what_one_process_has_mapped_outlives_that_the_cache_is_made_anew(root):
    first = cache.read(request_for(root))
    expected = first.pixels_BNC.tobytes()
    (request_for(root).folder / "about.json").unlink()
    cache.read(request_for(root))
    assert first.pixels_BNC.tobytes() == expected


def test_of_two_equal_requests_one_decodes(root, monkeypatch):
    read, lock, decoded, results = squares.read, filelock.FileLock, [], []
    meeting = threading.Barrier(2)

    def count(path, *arguments):
        decoded.append(path)
        return read(path, *arguments)

    def both_have_found_nothing(path):
        meeting.wait()
        return lock(path)

    monkeypatch.setattr(squares, "read", count)
    monkeypatch.setattr(filelock, "FileLock", both_have_found_nothing)
    both = [threading.Thread(target=lambda: results.append(cache.read(request_for(root)).pixels_BNC)) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert len(decoded) == COUNT
    assert np.array_equal(*results)


def in_memory(root):
    with pytest.warns(UserWarning, match="every process decodes the pictures in its own memory") as caught:
        decoded = cache.read(request_for(root))
    assert len(caught) == 1
    assert not isinstance(decoded.pixels_BNC, np.memmap)
    for number, expected in enumerate((1, 2, 3, 0, 4)):
        assert np.array_equal(decoded.pixels_BNC[number], pixels(expected).reshape(-1, 3))
    return decoded, str(caught[0].message)


def test_where_no_cache_can_be_made_pictures_are_decoded_in_memory(root, tmp_path):
    (tmp_path / "cache").touch()  # a file in its place
    decoded, message = in_memory(root)
    assert str(tmp_path / "cache") in message
    assert decoded.sha256 == cache.sha256(request_for(root))


def test_where_the_disk_is_full_nothing_is_left_of_the_attempt(root, monkeypatch):
    monkeypatch.setattr(np.lib.format, "write_array_header_1_0", refuse)
    _, message = in_memory(root)
    assert "No space left on device" in message
    assert [path.name for path in request_for(root).folder.iterdir()] == ["lock"]


def test_a_cache_that_can_only_be_read_is_read(root, monkeypatch, no_decoding):
    cache.read(request_for(root))
    no_decoding()
    monkeypatch.setattr(Path, "mkdir", refuse)
    monkeypatch.setattr(filelock, "FileLock", refuse)
    assert isinstance(cache.read(request_for(root)).pixels_BNC, np.memmap)


def test_a_damaged_picture_is_refused_and_nothing_is_kept(root):
    (root / "a" / "2.png").write_bytes((root / "a" / "2.png").read_bytes()[:-30])
    with pytest.raises(DataError, match=r"a/2\.png is damaged"):
        cache.read(request_for(root))
    assert [path.name for path in request_for(root).folder.iterdir()] == ["lock"]


def test_the_checksum_is_that_of_the_lines_of_sha256sum(root, no_decoding):
    names = ["a/0.png", "a/2.png", "a/4.png", "b/1.png", "b/3.png"]
    lines = [f"{hashlib.sha256((root / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    expected = hashlib.sha256("".join(lines).encode()).hexdigest()
    assert cache.read(request_for(root)).sha256 == expected
    no_decoding()
    assert (
        cache.sha256(request_for(root)) == cache.sha256(request_for(root, size=32)) == expected
    )  # the latter is not kept


def test_the_checksum_follows_the_files_in_a_process_that_looked_before(root):
    before = cache.sha256(request_for(root))
    Image.fromarray(pixels(99)).save(root / "a" / "0.png")
    assert cache.sha256(request_for(root)) != before


def test_pieces_are_cut_at_places_that_follow_from_the_number_alone(root):
    few, many = cache.read(request_for(root, 8, "crop", (0, 1, 2, 3, 4))), None
    for number in range(5, 9):
        Image.fromarray(pixels(number)).save(root / "b" / f"{number}.png")
    many = cache.read(request_for(root, 8, "crop", (8, 7, 6, 5, 0, 4, 3, 2, 1)))
    places = {}
    for decoded, order in ((few, (0, 2, 4, 1, 3)), (many, (8, 7, 6, 5, 0, 3, 1, 4, 2))):
        for number, picture in enumerate(order):
            whole, piece = pixels(picture), decoded.pixels_BNC[number].reshape(8, 8, 3)
            found = [(i, j) for i in range(33) for j in range(33) if np.array_equal(whole[i : i + 8, j : j + 8], piece)]
            places.setdefault(number, set()).update(found)
    assert all(len(place) == 1 for place in places.values())  # one for each number, whatever the picture
    assert len({*map(tuple, places.values())}) == 9
