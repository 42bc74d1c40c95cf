"""One picture file as a square: every format and mode with pixels known beforehand, shrunk by hand; every refusal."""

import contextlib
import hashlib
import itertools
import os
import random
import struct
import tracemalloc
import warnings
import zlib
from fractions import Fraction

import mutations
import numpy as np
import pytest
from PIL import Image

from isonb.training.sources import DataError, squares

RED, GREEN, BLUE, GREY = (255, 0, 0), (0, 255, 0), (0, 0, 255), (100, 100, 100)


def blocks(*rows, side=32):
    """A picture of even blocks, each `side` wide."""
    return np.array(rows, np.uint8).repeat(side, axis=0).repeat(side, axis=1)


def shown(path, size=2, **how):
    return squares.read(path, size, **how).pixels_HWC.tolist()


def as_lists(*rows):
    return [[list(colour) for colour in row] for row in rows]


# Formats and modes


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.png", {}),
        ("a.bmp", {}),
        ("a.webp", {"lossless": True}),
        ("a.gif", {}),
        ("a.jpg", {"quality": 100, "subsampling": 0}),
        ("a.JPEG", {"quality": 100, "subsampling": 0, "progressive": True}),
    ],
)
def test_a_picture_of_four_blocks_is_their_four_colours_in_every_format(name, options, tmp_path):
    Image.fromarray(blocks((RED, GREEN), (BLUE, GREY))).save(tmp_path / name, **options)
    tolerance = 2 if name.lower().endswith(("jpg", "jpeg")) else 0  # of the colour transform, which rounds
    expected = np.array(((RED, GREEN), (BLUE, GREY)))
    assert abs(np.array(shown(tmp_path / name)) - expected).max() <= tolerance
    read = squares.read(tmp_path / name, 64)
    assert abs(read.pixels_HWC.astype(int) - blocks((RED, GREEN), (BLUE, GREY))).max() <= tolerance
    assert read.sha256 == hashlib.sha256((tmp_path / name).read_bytes()).digest()
    assert not read.is_enlarged


def test_64_pixels_are_shrunk_to_the_means_of_blocks_of_two(tmp_path):
    value_HWC = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(value_HWC).save(tmp_path / "a.png")
    read = squares.read(tmp_path / "a.png", 32).pixels_HWC
    for i, j, channel in itertools.product(range(32), range(32), range(3)):
        four = [int(value_HWC[2 * i + a, 2 * j + b, channel]) for a in (0, 1) for b in (0, 1)]
        assert read[i, j, channel] == round(sum(four) / 4)  # halves to the even number, as Python rounds


def test_grey_palette_and_bilevel_pictures_become_colours(tmp_path):
    grey = blocks((0, 200), (100, 255))
    Image.fromarray(grey).save(tmp_path / "grey.png")
    assert shown(tmp_path / "grey.png") == as_lists(((0,) * 3, (200,) * 3), ((100,) * 3, (255,) * 3))
    palette = Image.fromarray(blocks((0, 1), (2, 3)), "P")
    palette.putpalette([*RED, *GREEN, *BLUE, *GREY])
    palette.save(tmp_path / "palette.png")
    assert shown(tmp_path / "palette.png") == as_lists((RED, GREEN), (BLUE, GREY))
    Image.fromarray(blocks((0, 255), (255, 0)) > 0).save(tmp_path / "bilevel.png")
    assert shown(tmp_path / "bilevel.png") == as_lists(((0,) * 3, (255,) * 3), ((255,) * 3, (0,) * 3))


def test_16_bit_grey_is_scaled_and_not_clipped(tmp_path):
    # 65535 is white; 257 = 65535 / 255 is one level, so 128 rounds to 0, 129 to 1, and 25700 + 128 still to 100.
    values = np.array([[0, 257, 128, 129], [25700, 25700 + 128, 25700 + 129, 65535]], np.uint16)
    Image.fromarray(values.repeat(2, axis=0)).save(tmp_path / "deep.png")
    with Image.open(tmp_path / "deep.png") as image:
        assert image.mode == "I;16"
    levels = [[0, 1, 0, 1], [0, 1, 0, 1], [100, 100, 101, 255], [100, 100, 101, 255]]
    assert squares.read(tmp_path / "deep.png", 4).pixels_HWC[..., 0].tolist() == levels


def test_transparent_parts_are_white_by_their_share(tmp_path):
    # 40 % of black on white: 255 * (1 - 102 / 255) = 153, and of red: green and blue alike.
    clear, half = (7, 8, 9, 0), (0, 0, 0, 102)
    alpha = blocks((clear, half), ((255, 0, 0, 102), (*BLUE, 255)))
    expected = as_lists(((255,) * 3, (153,) * 3), ((255, 153, 153), BLUE))
    for name, options in (("a.png", {}), ("a.webp", {"lossless": True, "exact": True})):
        Image.fromarray(alpha).save(tmp_path / name, **options)
        assert shown(tmp_path / name) == expected
    grey_alpha = Image.merge(
        "LA", [Image.fromarray(blocks((0, 0), (0, 0))), Image.fromarray(blocks((0, 255), (102, 255)))]
    )
    grey_alpha.save(tmp_path / "la.png")
    assert shown(tmp_path / "la.png") == as_lists(((255,) * 3, (0,) * 3), ((153,) * 3, (0,) * 3))
    palette = Image.fromarray(blocks((0, 1), (2, 3)), "P")
    palette.putpalette([*RED, *GREEN, *BLUE, *GREY])
    for name in ("p.gif", "p.png"):
        palette.save(tmp_path / name, transparency=1)
        assert shown(tmp_path / name) == as_lists((RED, (255,) * 3), (BLUE, GREY))
    Image.fromarray(blocks((RED, GREEN), (BLUE, GREY))).save(tmp_path / "key.png", transparency=GREEN)
    assert shown(tmp_path / "key.png") == as_lists((RED, (255,) * 3), (BLUE, GREY))


def test_cmyk_is_what_ink_leaves_of_white(tmp_path):
    # C, M, Y, K of 255 is full ink: no ink is white, full cyan takes all red, full black everything.
    inks = blocks(((0, 0, 0, 0), (255, 0, 0, 0)), ((0, 255, 255, 0), (0, 0, 0, 255)))
    Image.fromarray(inks, "CMYK").save(tmp_path / "a.jpg", quality=100, subsampling=0)
    expected = np.array([[(255, 255, 255), (0, 255, 255)], [(255, 0, 0), (0, 0, 0)]])
    assert abs(np.array(shown(tmp_path / "a.jpg")) - expected).max() <= 2


def test_of_a_moving_picture_the_first_frame_counts(tmp_path):
    first, second = Image.fromarray(blocks((RED, GREEN), (BLUE, GREY))), Image.new("RGB", (64, 64), "black")
    for name in ("a.gif", "a.webp", "a.png"):
        options = {"lossless": True} if name.endswith("webp") else {}
        first.save(tmp_path / name, save_all=True, append_images=[second], **options)
        assert shown(tmp_path / name) == as_lists((RED, GREEN), (BLUE, GREY))


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp"])
def test_pictures_are_turned_upright_as_the_camera_says(name, tmp_path):
    upright = np.array(((RED, GREEN), (BLUE, GREY)))
    # What is stored when the camera notes 1 to 8, from the table of the EXIF standard: where row 0 and column 0 are.
    stored = {
        1: upright,  # top, left
        2: upright[:, ::-1],  # top, right
        3: upright[::-1, ::-1],  # bottom, right
        4: upright[::-1],  # bottom, left
        5: upright.swapaxes(0, 1),  # left, top
        6: upright.swapaxes(0, 1)[::-1],  # right, top: the stored rows are columns of the scene, from its right
        7: upright[::-1, ::-1].swapaxes(0, 1),  # right, bottom
        8: upright.swapaxes(0, 1)[:, ::-1],  # left, bottom
    }
    # Of 6: row 0 is the scene's right-hand side, column 0 its top, so stored[i, j] = scene[j, last - i].
    options = {"a.jpg": {"quality": 100, "subsampling": 0}, "a.webp": {"lossless": True}, "a.png": {}}[name]
    for orientation, value in stored.items():
        exif = Image.Exif()
        exif[274] = orientation
        Image.fromarray(blocks(*value.tolist())).save(tmp_path / name, exif=exif, **options)
        assert abs(np.array(shown(tmp_path / name)) - upright).max() <= 2, orientation


def test_damaged_notes_of_a_camera_leave_the_picture_as_it_is(tmp_path):
    Image.fromarray(blocks((RED, GREEN), (BLUE, GREY))).save(tmp_path / "a.png", exif=b"Exif\0\0no TIFF at all")
    assert shown(tmp_path / "a.png") == as_lists((RED, GREEN), (BLUE, GREY))


# Shrinking and cutting


@pytest.mark.parametrize(("side", "size"), [(7, 3), (33, 32), (50, 8), (3, 8), (5, 5), (1, 4)])
def test_each_pixel_is_the_mean_of_the_area_that_it_covers(side, size):
    value_HWC = np.random.default_rng(side).integers(0, 256, (side, side, 3), np.uint8)
    shrunk = squares.shrink(value_HWC, size)
    assert shrunk.dtype == np.uint8
    reach = Fraction(side, size)

    def overlaps(i):
        """The pixels that pixel i covers, each with the covered share of it."""
        first, end = i * reach, (i + 1) * reach
        return [(j, min(end, j + 1) - max(first, j)) for j in range(side) if min(end, j + 1) > max(first, j)]

    for i, j in itertools.product(range(size), range(size)):
        area = [(a, b, x * y) for (a, x), (b, y) in itertools.product(overlaps(i), overlaps(j))]
        assert sum(share for _, _, share in area) == reach**2
        for channel in range(3):
            mean = sum(int(value_HWC[a, b, channel]) * share for a, b, share in area) / reach**2
            assert shrunk[i, j, channel] == round(mean)


def test_the_central_square_is_used(tmp_path):
    wide = np.concatenate([blocks((BLUE,), (BLUE,), side=8), blocks((RED, GREEN), (GREEN, RED), side=8)], axis=1)
    wide = np.concatenate([wide, blocks((GREY,), (GREY,), side=8)], axis=1)
    Image.fromarray(wide).save(tmp_path / "wide.png")
    assert shown(tmp_path / "wide.png") == as_lists((RED, GREEN), (GREEN, RED))
    Image.fromarray(wide.swapaxes(0, 1)).save(tmp_path / "tall.png")
    assert shown(tmp_path / "tall.png") == as_lists((RED, GREEN), (GREEN, RED))


def test_a_piece_is_cut_at_shares_of_the_room(tmp_path):
    rows, columns = np.mgrid[:20, :50]
    Image.fromarray(np.stack([rows, columns, rows * 0], axis=2).astype(np.uint8)).save(tmp_path / "a.png")
    # 20 - 8 + 1 = 13 places from the top, 50 - 8 + 1 = 43 from the left.
    for corner, top, left in (((0.0, 0.0), 0, 0), ((0.5, 0.25), 6, 10), ((0.999, 0.999), 12, 42)):
        piece = squares.read(tmp_path / "a.png", 8, corner).pixels_HWC
        assert piece[..., 0].tolist() == [[top + i] * 8 for i in range(8)]
        assert piece[..., 1].tolist() == [list(range(left, left + 8))] * 8


def test_a_smaller_picture_is_enlarged_and_says_so(tmp_path):
    Image.fromarray(blocks((RED, GREEN, GREEN), (BLUE, GREY, GREEN), side=1)).save(tmp_path / "a.png")
    for corner in (None, (0.9, 0.9)):
        read = squares.read(tmp_path / "a.png", 4, corner)
        assert read.is_enlarged
        assert read.pixels_HWC.tolist() == blocks((RED, GREEN), (BLUE, GREY), side=2).tolist()


def test_equal_pictures_share_a_number_whatever_their_files_and_others_do_not(tmp_path):
    value_HWC = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    files = {"a.png": value_HWC, "b.bmp": value_HWC, "c.png": value_HWC.reshape(60, 40, 3)}
    files["d.png"] = np.concatenate([value_HWC[:, :-1], value_HWC[:, -1:] ^ 1], axis=1)  # outside the central square
    for name, value in files.items():
        Image.fromarray(value).save(tmp_path / name)
    numbers = [squares.read(tmp_path / name, 8).content for name in files]
    assert numbers[0] == numbers[1] == squares.read(tmp_path / "a.png", 16, (0.5, 0.5)).content
    assert len({*numbers}) == 3


# Refusals


def refusal(path):
    with pytest.raises(DataError) as caught:
        squares.read(path, 8)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert message.endswith(".")
    assert "\n" not in message
    return message.removeprefix(str(path))


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.webp", "a.gif", "a.jpg"])
def test_a_truncated_picture_is_refused_wherever_it_ends(name, tmp_path):
    path = tmp_path / name
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 24, 3), np.uint8)).save(path)
    content = path.read_bytes()
    for length in (*range(1, 200, 7), len(content) // 2, len(content) - 20):
        path.write_bytes(content[:length])
        assert refusal(path).endswith("remove it.")


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.webp", "a.gif", "a.jpg"])
def test_a_damaged_picture_is_a_square_or_refused_in_a_sentence(name, tmp_path):
    path, chance, exif = tmp_path / name, random.Random(0), Image.Exif()
    exif[274] = 6
    with_exif = {} if name in ("a.bmp", "a.gif") else {"exif": exif}
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 20, 3), np.uint8)).save(path, **with_exif)
    content = path.read_bytes()
    refused = 0
    for _ in range(mutations.COUNT // 5):
        path.write_bytes(mutations.mutated(content, chance))
        try:
            with warnings.catch_warnings(action="ignore"):  # Pillow's own, as in the cache
                square = squares.read(path, 8)
            assert (square.pixels_HWC.shape, square.pixels_HWC.dtype) == ((8, 8, 3), np.uint8)
        except DataError as error:
            assert str(error).startswith(str(path)) and str(error).endswith(".") and "\n" not in str(error)
            refused += 1
    assert refused > 0


@pytest.mark.parametrize("kind", [b"zTXt", b"iCCP", b"IDAT"])
def test_what_would_unpack_to_more_than_is_claimed_is_not_unpacked(kind, tmp_path, monkeypatch):
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows, bomb = zlib.compress(bytes(8 * 25)), zlib.compress(bytes(2**28), 9)
    chunks = [chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0))]
    chunks += [chunk(kind, bomb if kind == b"IDAT" else b"k\0\0" + bomb)]
    chunks += [chunk(b"IDAT", rows)] if kind != b"IDAT" else []
    path = tmp_path / "bomb.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + chunk(b"IEND", b""))
    monkeypatch.setattr(squares, "LARGEST", 10**6)
    tracemalloc.start()
    with contextlib.suppress(DataError):
        squares.read(path, 8)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2**25


def test_a_png_with_a_flipped_bit_is_refused(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 24, 3), np.uint8)).save(path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert " is damaged (" in refusal(path)


def test_an_empty_file_and_one_that_is_no_picture_are_refused(tmp_path):
    path = tmp_path / "a.jpg"
    path.touch()
    assert refusal(path) == " is empty: replace it or remove it."
    path.write_text("a login page")
    assert refusal(path) == " is not a picture: rename it, replace it or remove it."
    Image.new("RGB", (8, 8)).save(path, "TIFF")
    assert refusal(path) == " is not a picture: rename it, replace it or remove it."


def test_a_file_that_is_gone_or_cannot_be_read_is_refused(tmp_path):
    assert refusal(tmp_path / "a.jpg").startswith(" cannot be read (No such file or directory)")
    (tmp_path / "b.jpg").mkdir()
    assert refusal(tmp_path / "b.jpg").startswith(" cannot be read (")
    os.mkfifo(tmp_path / "c.jpg")
    assert refusal(tmp_path / "c.jpg").startswith(" cannot be read (it is not a regular file)")
    (tmp_path / "d.jpg").symlink_to("d.jpg")
    assert refusal(tmp_path / "d.jpg").startswith(" cannot be read (Too many levels of symbolic links)")


@pytest.mark.parametrize(("width", "height"), [(10_000, 5_001), (10_000, 10_000), (60_000, 60_000)])
def test_a_picture_with_too_many_pixels_is_refused_before_it_is_decoded(width, height, tmp_path, monkeypatch):
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    path = tmp_path / "bomb.png"
    data = zlib.compress(bytes(100))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b""))
    monkeypatch.setattr(Image.Image, "load", lambda *_: pytest.fail("it was decoded"))
    assert refusal(path) == " has more than 50 million pixels: shrink it or remove it."


def test_a_file_longer_than_any_picture_is_refused_unread(tmp_path):
    path = tmp_path / "a.bmp"
    with path.open("wb") as file:
        file.truncate(10**10)  # takes no room on the disk
    assert " cannot be read (it has 10,000,000,000 bytes, more than" in refusal(path)
