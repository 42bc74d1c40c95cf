"""The explorer with a kernel, and its page's script under node: both show what `isonb.features` computes."""

import base64
import io
import json
import re
import shutil
import subprocess
from importlib import resources

import nbclient
import nbformat
import numpy as np
import pytest
from PIL import Image

from isonb import draws, features
from isonb.pages import explorer

NODE = shutil.which("node") or shutil.which("nodejs")
needs_node = pytest.mark.skipif(NODE is None, reason="needs node to run the page's script")
FOURIER = [
    ("rff", sigma, k, seed, value_range)
    for sigma, k, seed, value_range in (
        (0.01, 128, 0, "symmetric"),
        (0.1, 128, 1, "symmetric"),
        (1.0, 8, 0, "symmetric"),
        (1.0, 128, 7, "unit"),
        (3.0, 256, 9999, "symmetric"),
        (10.0, 64, 2, "unit"),
        (100.0, 256, 0, "symmetric"),
    )
]
RED, BLUE = (103, 0, 31), (5, 48, 97)  # the ends of ColorBrewer's RdBu
OTHERS = [("one-hot", 1.0, 128, 0, "symmetric"), ("continuous", 1.0, 128, 0, "symmetric")]


def in_node(expression: str, *arguments):
    """The value of an expression over `given`, the arguments, in a module that begins with the page's mathematics."""
    maths = resources.files("isonb.pages").joinpath("explorer_maths.js").read_text(encoding="utf-8")
    script = f"{maths}\nconst given = {json.dumps(arguments)};\nconsole.log(JSON.stringify({expression}));"
    done = subprocess.run([NODE, "--input-type=module"], input=script, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@needs_node
def test_the_page_draws_the_same_bits():
    purposes = ["random Fourier frequencies/angle", "masks", "β"]
    cases = [(seed, purpose, i) for seed in (0, 1, 2**31 - 1) for purpose in purposes for i in (0, 1, 255)]
    got = in_node("given.map((what) => String(bits(...what)))", *cases)
    assert [int(word) for word in got] == [int(draws.bits(*what)) for what in cases]
    assert in_node("String(bits(5, 'order', 3, 4))") == str(draws.bits(5, "order", 3, 4))


@needs_node
def test_the_page_draws_the_same_uniform_and_normal_numbers():
    cases = [(seed, "random Fourier frequencies", i) for seed in (0, 3) for i in range(256)]
    assert in_node("given.map((what) => uniform(...what))", *cases) == [float(draws.uniform(*what)) for what in cases]
    normal = in_node("given.map((what) => normal(...what))", *cases)
    assert normal == pytest.approx([float(draws.normal(*what)) for what in cases], rel=1e-12, abs=1e-14)


@needs_node
@pytest.mark.parametrize("setting", FOURIER + OTHERS)
def test_the_page_measures_what_python_measures(setting):
    expected = explorer.measure(*setting)
    got = in_node(
        "given.map(([encoding, sigma, k, seed, valueRange]) => measure({ encoding, sigma, k, seed, valueRange })).map("
        "(m) => ({ ...m, similarity: [...m.similarity], profile: [...m.profile], says: describe(m),"
        " expected: m.expected && [...m.expected], pictured: m.pictured.map(([name, f]) => [name, [...f]]) }))[0]",
        setting,
    )
    assert np.abs(np.reshape(got["similarity"], (256, 256)) - expected.similarity_VV).max() < 1e-9
    assert got["profile"] == pytest.approx(expected.profile_V, abs=1e-9)
    assert (got["rank"], got["halfWidth"]) == (expected.rank, expected.half_width)
    assert got["says"] == str(expected)
    if expected.expected_V is None:
        assert got["expected"] is None
    else:
        assert got["expected"] == pytest.approx(expected.expected_V, abs=1e-12)
    for (name, feature), (expected_name, expected_V) in zip(got["pictured"], expected.pictured, strict=True):
        assert name == expected_name
        assert feature == pytest.approx(expected_V, abs=1e-9)


@needs_node
def test_the_page_solves_for_the_eigenvalues_of_any_symmetric_matrix():
    for n in (1, 2, 7, 64):
        matrix = draws.normal(n, "test", np.arange(n)[:, None], np.arange(n))
        matrix += matrix.T
        got = in_node("eigenvalues(...tridiagonal(given.map((row) => Float64Array.from(row))))", *matrix.tolist())
        assert sorted(got) == pytest.approx(np.linalg.eigvalsh(matrix), abs=1e-11)
    for special in (np.zeros((5, 5)), np.eye(5), np.ones((5, 5)), np.kron(np.eye(2), np.ones((3, 3)))):
        got = in_node("eigenvalues(...tridiagonal(given.map((row) => Float64Array.from(row))))", *special.tolist())
        assert sorted(got) == pytest.approx(np.linalg.eigvalsh(special), abs=1e-13)


def test_the_sliders_show_what_features_compute():
    shown = explorer.sigma_explorer()
    shown.sigma.value, shown.k.value, shown.seed.value, shown.value_range.value = 10.0, 64, 3, "unit"
    features_VF = features.random_fourier(features.draw_frequencies(10.0, 64, 3), "unit")
    similarity_VV = features.cosine_similarity(features_VF)
    assert (shown.measurement.similarity_VV == similarity_VV).all()
    rank, width = features.rank_at_energy(features_VF), features.half_width(features.similarity_profile(similarity_VV))
    assert f"Rank at 99 % energy: {rank} of 256. Half-width: {width} levels." in shown.numbers.value


def test_every_control_changes_the_picture():
    shown = explorer.sigma_explorer()
    pictures = [shown.picture.value]
    for control, value in (("sigma", 0.1), ("k", 16), ("seed", 1), ("value_range", "unit"), ("encoding", "one-hot")):
        getattr(shown, control).value = value
        pictures.append(shown.picture.value)
    assert len(set(pictures)) == 6
    assert f'alt="Similarity map and profile. {shown.measurement}"' in shown.picture.value


def test_a_button_sets_one_of_the_papers_sigmas():
    shown = explorer.sigma_explorer()
    assert [button.description for button in shown.presets] == ["σ = 0.1", "σ = 1", "σ = 10"]
    shown.presets[2].click()
    assert shown.sigma.value == 10
    expected = features.cosine_similarity(features.random_fourier(features.draw_frequencies(10.0, 128, 0)))
    assert (shown.measurement.similarity_VV == expected).all()


def test_nothing_of_an_earlier_step_is_left_in_the_picture():
    kept = explorer.Drawing()
    for setting in (*FOURIER, *OTHERS, FOURIER[0]):
        measurement = explorer.measure(*setting)
        assert (kept.of(measurement) == explorer.Drawing().of(measurement)).all(), setting


def test_the_heat_map_has_the_colours_of_its_similarities():
    picture = explorer.Drawing().of(explorer.measure("continuous", 1.0, 128, 0, "symmetric"))
    top, left = np.argwhere((picture == RED).all(axis=2))[0]
    assert (picture[top + 5, left + 5] == RED).all()  # two of the darkest values look the same,
    assert (picture[top + 5, left + 270] == BLUE).all()  # and opposite to two of the brightest
    assert (picture[top + 270, left + 270] == RED).all()


def test_a_small_picture_is_a_feature_of_each_pixel():
    shown = explorer.sigma_explorer()
    whole, photo, sine, *others = re.findall(r'<img alt="([^"]*)"[^>]*base64,([^"]*)"', shown.picture.value)
    assert (len(others), photo[0]) == (5, "photograph")
    assert whole[0] == f"Similarity map and profile. {shown.measurement}"
    assert (pixels_of(photo[1]) == explorer.photograph()).all()
    beta = features.draw_frequencies(1.0, 128, 0)[0]
    value = int(explorer.photograph()[10, 20, 1])
    expected = 127.5 * (1 + np.sin(2 * np.pi * beta * (value / 127.5 - 1)))
    assert pixels_of(sine[1])[10, 20, 1] == pytest.approx(expected, abs=0.5)
    assert f"<figcaption>{sine[0]}</figcaption>" in shown.picture.value


def pixels_of(source):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(source))))


@pytest.mark.parametrize(
    ("encoding", "sentence"),
    [
        ("one-hot", "Rank at 99 % energy: 254 of 256. Half-width: 1 level."),
        ("continuous", "Rank at 99 % energy: 1 of 256. Half-width: 52 levels."),
    ],
)
def test_only_random_fourier_features_have_frequencies_to_set(encoding, sentence):
    shown = explorer.sigma_explorer()
    assert not shown.sigma.disabled
    shown.encoding.value = encoding
    assert all(control.disabled for control in (shown.sigma, *shown.presets, shown.k, shown.seed, shown.value_range))
    assert str(shown.measurement) == sentence


def test_a_profile_that_stays_high_has_no_half_width():
    assert str(explorer.measure("rff", 0.01, 128, 0, "symmetric")).endswith("Half-width: nowhere below 1/2.")


def test_features_of_the_photograph_are_features_of_its_pixels():
    measurement = explorer.measure("rff", 1.0, 128, 0, "symmetric")
    beta = features.draw_frequencies(1.0, 128, 0)[0]
    caption, feature_V = measurement.pictured[0]
    assert caption == f"sin, β = {beta:.3f}".replace("-", "−")
    value = int(explorer.photograph()[10, 20, 1])
    assert feature_V[value] == pytest.approx(np.sin(2 * np.pi * beta * (value / 127.5 - 1)))


def test_the_page_is_one_piece_of_html_that_asks_for_nothing():
    html = explorer.page()
    assert not re.search(r"\b(src|href)=|@import|url\(|fetch\(|^import ", html, re.MULTILINE)
    assert html.count("</script>") == 1
    assert len(html) < 60_000


@pytest.mark.slow
def test_a_notebook_holds_the_widget_and_the_page():
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell("from isonb.pages import explorer; explorer.sigma_explorer()")]
    )
    nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
    (output,) = notebook.cells[0].outputs
    assert output.data["text/html"] == explorer.page()
    assert output.data["application/vnd.jupyter.widget-view+json"]["model_id"]
    assert len(json.dumps(notebook.metadata)) < 200_000  # the widgets' state, which a published page carries along
