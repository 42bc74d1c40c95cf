"""`python -m isonb sample`: a picture for whoever asks for what can be had, a sentence for the others."""

import base64
import io
import re
import warnings

import numpy as np
import PIL.Image
import pytest
from tiny_runs import made_images, tiny_run

from isonb import places, records
from isonb.__main__ import main
from isonb.evidence.figures import completions
from isonb.models import network
from isonb.running import samples
from isonb.training import checkpoint, data

CAUSAL = {"block": "conv", "objective": "autoregressive"}


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """Keeps the weights of a tiny network, as a finished run leaves them, and returns its name."""
    monkeypatch.setenv("ISONB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(data, "load", lambda *_: made_images())

    def keep(**settings):
        run = tiny_run(**settings)
        folder = places.runs_folder("cpu") / "checkpoints" / run.run_id / "images"
        folder.mkdir(parents=True)
        checkpoint.keep_final(folder, run, network.build_network(run))
        return run.run_id

    return keep


def test_the_same_seed_gives_the_same_picture(kept, tmp_path, capsys):
    run_id, asked = kept(**CAUSAL), ["--images", "3", "--rows", "4"]
    pictures = []
    for name, seed in (("one.png", "5"), ("again.PNG", "5"), ("other.png", "6")):
        assert main(["sample", run_id, *asked, str(tmp_path / name), "--seed", seed]) == 0
        pictures.append((tmp_path / name).read_bytes())
    assert pictures[0] == pictures[1] != pictures[2]
    with PIL.Image.open(tmp_path / "one.png") as picture:
        wide, high = picture.size
    assert wide == 8 * samples.DOTS and high > wide / 4
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith(f"{tmp_path / 'one.png'}: Test images of which the first 4 of 8 rows are given")
    assert "At once" not in said[0]


def test_what_the_masked_twin_fills_in_stands_beside(kept, tmp_path, capsys):
    run_id, _ = kept(**CAUSAL), kept(block="conv")
    assert main(["sample", run_id, str(tmp_path / "one.png"), "--images", "1", "--rows", "7"]) == 0
    assert "At once: the masked network's prediction" in capsys.readouterr().out


def test_a_file_of_weights_is_as_good_as_a_name_and_without_temperature_nothing_is_left_to_chance(
    kept, tmp_path, capsys
):
    run_id = kept(**CAUSAL)
    [path] = places.runs_folder("cpu").rglob(checkpoint.FINAL)
    for which in (path, path.parent):
        assert main(["sample", str(which), str(tmp_path / "one.png"), "--rows=6", "--images=2", "--temperature=0"]) == 0
    said = capsys.readouterr().out
    assert run_id in said and "by chance" not in said


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--rows", "0"], "rows=0 is not allowed: so many rows are given, 1 to 7 of images of 8."),
        (["--rows", "8"], "rows=8 is not allowed: so many rows are given, 1 to 7 of images of 8."),
        (["--temperature=-1"], "temperature=-1 is not allowed: choose a number from 0, which leaves nothing to "),
        (["--temperature", "nan"], "temperature=nan is not allowed: "),
        (["--temperature", "inf"], "temperature=inf is not allowed: "),
        (["--images", "5"], "images=5 is not allowed: there are 4 test images of made up."),
        (["--images", "0"], "images=0 is not allowed: choose 1 to 64."),
        (["--images", "65"], "images=65 is not allowed: choose 1 to 64."),
        (["--seed=-1"], "seed=-1 is not allowed: choose 0 to 2147483647."),
    ],
)
def test_what_cannot_be_had_is_refused_in_a_sentence(options, sentence, kept, tmp_path, capsys):
    usual = ["sample", kept(**CAUSAL), str(tmp_path / "one.png"), "--images=1", "--rows=4"]
    assert main([*usual, *options]) == 2
    [said] = capsys.readouterr().err.splitlines()
    assert said.startswith(sentence)
    assert not (tmp_path / "one.png").exists()


def test_so_is_a_picture_of_another_kind_and_one_that_cannot_be_written(kept, tmp_path, capsys):
    run_id, file = kept(**CAUSAL), tmp_path / "file"
    file.touch()
    (tmp_path / "folder.png").mkdir()
    for out, sentence in (
        (tmp_path / "one.jpg", "does not end in .png: name the picture so."),
        (tmp_path / "one", "does not end in .png: name the picture so."),
        (tmp_path / "folder.png", "is a folder: name the picture another way."),
        (file / "one.png", ""),
    ):
        assert main(["sample", run_id, str(out), "--rows=4", "--images=1"]) == 2
        [said] = capsys.readouterr().err.splitlines()
        assert said.startswith(str(out if sentence else file)) and said.endswith(sentence)


def test_so_is_a_network_that_was_not_trained_so_and_one_that_is_not_there(kept, tmp_path, capsys):
    run_id, out = kept(block="mixer"), str(tmp_path / "one.png")
    assert main(["sample", run_id, out, "--rows=4"]) == 2
    assert capsys.readouterr().err == (
        f"{run_id} was trained with objective='bert', which predicts no pixel from those before it: name a run with "
        "objective=autoregressive.\n"
    )
    assert main(["sample", "conv-none-L1-s0-00000000", out]) == 1
    [said] = capsys.readouterr().err.splitlines()
    assert said.startswith("conv-none-L1-s0-00000000 keeps no network: ")


# The figure


def arrays(images=3, size=8, ways=5, seed=0):
    draw, lower = np.random.default_rng(seed), size - size // 2

    def some(*shape):
        return draw.integers(0, 256, shape, dtype=np.uint8)

    return {
        "original_BHWC": some(images, size, size, 3),
        "completed_BSHWC": some(images, ways, lower, size, 3),
        "neighbour_BKHWC": some(images, 2, size, size, 3),
        "nearest_BK": np.tile(np.float32([90] + [10] * (ways - 1) + [30]), (images, 1)),
    }


def titles(figure):
    return [ax.get_title().replace("\n", " ") for part in figure.subfigs for ax in part.axes]


def test_the_figure_has_a_column_for_each_way_and_the_upper_half_in_each():
    found = arrays()
    figure = completions.completions([completions.Panel("", found)], "a network").wide
    drawn = [f"drawn {way}" for way in range(1, 5)]
    assert titles(figure) == ["original", "given", "most probable", *drawn, "nearest (lower)", "nearest (whole)"]
    for place, ax in enumerate(figure.subfigs[0].axes[:7]):
        shown = ax.images[0].get_array()[1:-1, 1:-1, :3].astype(int)[:8]  # the first image, without its gap
        assert np.array_equal(shown[:4], found["original_BHWC"][0, :4])
        lower = found["completed_BSHWC"][0, place - 2] if place > 1 else found["original_BHWC"][0, 4:]
        assert np.array_equal(shown[4:], np.full_like(lower, 128) if place == 1 else lower)
    assert "10 levels; the true rows, 30." in figure.caption  # of those that were drawn by chance
    assert figure.alt.startswith("3 rows of images. Columns: original, given, ")


def test_the_page_is_seen_between_the_images():
    html = completions.completions([completions.Panel("", arrays())], "a network").to_html()
    drawings = re.findall(r'"data:image/svg\+xml;base64,([^"]*)"', html)
    rasters = [
        source
        for drawing in drawings
        for source in re.findall(r'data:image/webp;base64,([^"]*)"', base64.b64decode(drawing).decode())
    ]
    assert len(rasters) == 2 * 9  # for a phone and for a desk
    for source in rasters:
        alpha_HW = np.asarray(PIL.Image.open(io.BytesIO(base64.b64decode(source))).convert("RGBA"))[..., 3]
        assert (alpha_HW[1:9, 1:9] == 255).all() and not alpha_HW[0].any() and not alpha_HW[:, 0].any()


def test_a_masked_twin_has_a_column_and_a_phone_has_them_in_two_groups():
    found = {**arrays(), "filled_below_BHWC": np.zeros((3, 4, 8, 3), np.uint8)}
    figure = completions.completions([completions.Panel("mixer", found), completions.Panel("conv", arrays())], "both")
    assert titles(figure).count("at once") == titles(figure.wide).count("at once") == 1
    first = figure.subfigs[0].axes
    assert first[0].get_position().y0 > first[5].get_position().y0 and len(first) == 10
    assert figure.alt.startswith("6 rows of images, by mixer, conv. ")


def test_no_network_reads_not_run():
    figure = completions.by_network([])
    assert figure.alt.endswith("Not run.") and figure.wide is not None


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("completed_BSHWC", lambda array: array[:, :, :-1]),
        ("completed_BSHWC", lambda array: array[0, 0, 0]),
        ("neighbour_BKHWC", lambda array: array[:, :1]),
        ("nearest_BK", lambda array: array * np.float32(np.nan)),
        ("nearest_BK", lambda array: -array),
        ("filled_below_BHWC", lambda array: array[:1]),
    ],
)
def test_completions_of_other_shapes_are_refused(name, change):
    good = {**arrays(), "filled_below_BHWC": np.zeros((3, 4, 8, 3), np.uint8)}
    records._require_completions(good, (3, 8))
    with pytest.raises(ValueError, match=name):
        records._require_completions({**good, name: change(good[name])}, (3, 8))


def test_nothing_warns(kept, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        samples.write(kept(**CAUSAL), tmp_path / "one.png", samples.Wanted(images=1, rows=4))
