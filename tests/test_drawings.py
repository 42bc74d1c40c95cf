"""Drawings show what they are given: boxes in order, squares of the right size, and what a block can notice."""

import base64
import itertools
import re

import numpy as np
import pytest
from gap_study import gap_study
from made_records import made_arrays, made_record
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from isonb import config, features
from isonb.evidence import figures, metrics
from isonb.evidence.figures import diagrams
from isonb.pages import gap

DIAGRAMS = {
    "network": figures.network(config.RunConfig(block="transformer", depth=3)),
    "probe": figures.probe(config.RunConfig(depth=6), classes=10),
    "step": figures.step(config.RunConfig(batch_size=7), processes=3),
    "cell": figures.cell(),
    "addition": figures.addition(),
}


# Diagrams


@pytest.mark.parametrize("width", ["phone", "desk"])
@pytest.mark.parametrize("name", DIAGRAMS)
def test_the_words_of_a_diagram_stay_inside_and_apart(name, width):
    figure = DIAGRAMS[name] if width == "phone" else DIAGRAMS[name].wide
    figure.draw_without_rendering()
    extents = [text.get_window_extent() for text in figure.findobj(Text) if text.get_text()]
    assert len(extents) > 8
    assert all(figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 for box in extents)
    assert all(figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1 for box in extents)
    assert not any(one.overlaps(other) for one, other in itertools.combinations(extents, 2))


def test_a_number_in_a_drawing_keeps_its_digits():
    step = diagrams.Step("rate", "0.0035 at first")
    drawing = re.search(r"base64,([^\"]*)", diagrams.flow([step], "").to_html())[1]
    assert b">0.0035 at first<" in base64.b64decode(drawing)


def test_a_network_is_told_with_its_own_numbers():
    run = config.RunConfig(block="mixer", image_size=8, width=16, depth=3, mask_rate=0.5)
    alt = figures.network(run).alt
    assert "2. encode: Each pixel becomes 16 numbers" in alt and "64 × 16 numbers" in alt  # 8 x 8 positions
    assert "3. mask: Hidden pixels, 50% of all" in alt
    assert "4. position: Nothing is added" in alt  # a mixer has no positions by default
    assert "5. 3 blocks: Each is a mixer" in alt
    assert "6. head: At hidden pixels alone: 3 × 256 numbers" in alt
    told = figures.network(run.model_copy(update={"positions": "learned", "depth": 1})).alt
    assert "4. position: A vector for each place is added" in told and "5. 1 block:" in told


def test_a_probe_trains_its_linear_map_alone():
    assert (
        "4. linear map: All that is trained: 16 × 7 weights and 7 biases."
        in figures.probe(config.RunConfig(width=16), classes=7).alt
    )


def test_a_batch_is_shared_as_evenly_as_it_can_be():
    assert "3 processes take 2, 2, 3 of them" in DIAGRAMS["step"].alt
    assert "4 processes take 0, 1, 0, 1 of them" in figures.step(config.RunConfig(batch_size=2), processes=4).alt


# Reach and symmetries


def test_reach_is_drawn_as_a_square_around_the_middle():
    figure = figures.reach({("conv", 1): 5, ("mixer", 1): 32}, image_size=32)
    small, whole = (
        [(*patch.get_xy(), patch.get_width()) for patch in ax.patches if isinstance(patch, Rectangle)]
        for ax in figure.axes
        if ax.get_visible()
    )
    assert small == [(14, 14, 5), (16, 16, 1)]  # 14 to 18 has 16 in its middle
    assert whole == [(0, 0, 32), (16, 16, 1)]
    assert "convolution, size 1: 5 by 5 pixels. mixer, size 1: 32 by 32 pixels." in figure.alt


def test_a_block_that_cannot_notice_gives_the_same_again():
    picture = np.arange(4.0).reshape(2, 2)
    figure = figures.symmetries(
        {"as it is": picture, "shuffled": picture[::-1], "shifted": picture[:, ::-1]},
        {"conv": [picture, picture + 1e-6, picture + 1e-12], "mixer": [picture, picture + 1, picture + 2]},
    )
    assert figure.alt.endswith(
        "convolution, shuffled: differs. convolution, shifted: the same. "
        "mixer, shuffled: differs. mixer, shifted: differs."
    )
    assert [ax.get_xlabel() for ax in figure.axes if ax.get_xlabel()] == ["differs", "differs", "same", "differs"]


def test_positions_are_compared_with_the_one_that_is_marked():
    alike, apart = np.ones((16, 3)), np.eye(16)
    figure = figures.positions({"alike": alike, "apart": apart}, at=(1, 2))
    assert "alike: 1.00 with the neighbour, 1.00 with the last corner." in figure.alt
    assert "apart: 0.00 with the neighbour, 0.00 with the last corner." in figure.alt
    shown = figure.axes[1].images[0].get_array()
    assert np.argwhere(shown == 1).tolist() == [[1, 2]]


def learned(*runs):
    """The study of some networks, given by encoding, seed and changes: positions of a 5 by 5 picture know their row."""
    cells = [
        config.cpu(block="transformer", depth=1, encoding=encoding, seed=seed, **more) for encoding, seed, more in runs
    ]
    packed_QN = features.pack_positions(np.repeat(np.eye(5), 5, axis=0))
    by_id = {cell.run.run_id: made_record(cell) for cell in cells}
    return metrics.tables(by_id, arrays={run_id: {**made_arrays(), "positions_QN": packed_QN} for run_id in by_id})


def test_of_learned_positions_the_plainest_network_of_each_encoding_is_shown():
    t = learned(("rff", 2, {}), ("rff", 1, {}), ("rff", 0, {"epochs": 24}), ("continuous", 0, {"epochs": 24}))
    figure = figures.learned_positions(t)
    assert figure.runs["seed"].tolist() == [1, 0] and figure.runs["encoding"].tolist() == ["rff", "continuous"]
    assert [ax.get_title().replace("\n", " ") for ax in figure.axes[:2]] == [
        "transformer (1 head), random Fourier, size 1",
        "transformer (1 head), continuous, size 1, 24 epochs",
    ]
    shown = figure.axes[0].images[0].get_array()
    assert shown.shape == (5 * 7, 5 * 7)  # maps of 5 by 5 with a gap around each
    assert shown[1 * 7 + 2, 3 * 7 + 1 : 3 * 7 + 6].tolist() == [1] * 5  # the second row of that row's fourth map
    assert shown[1 * 7 + 3, 3 * 7 + 1 : 3 * 7 + 6].tolist() == [0] * 5
    assert "continuous, size 1, 24 epochs: 0.50 with direct neighbours, 0.12 with all others." in figure.alt


def test_positions_that_nothing_keeps_have_not_run():
    t = metrics.tables({})
    assert "Not run." in figures.learned_positions(t).alt and gap.learned_positions(t).empty


def test_how_alike_learned_positions_are_stands_beside_each_network():
    found = gap.learned_positions(learned(("rff", 0, {}), ("continuous", 0, {})))
    assert found["near"].tolist() == [0.5, 0.5] and found["apart"].tolist() == pytest.approx([60 / 520] * 2)


# Groups


def test_groups_are_told_apart_by_their_markers():
    figure = figures.groups(np.array([0.0, 1, 2, 3]), np.array([3.0, 2, 1, 0]), np.array([0, 0, 1, 2]))
    points = [
        (line.get_marker(), line.get_xdata().tolist(), line.get_ydata().tolist()) for line in figure.axes[0].lines
    ]
    assert [point[1:] for point in points] == [([0, 1], [3, 2]), ([2], [1]), ([3], [0])]
    assert len({marker for marker, *_ in points}) == 3
    assert "Made-up networks of 3 kinds" in figure.alt and "the 4 points" in figure.alt


# The gap


def test_bars_have_shares_of_the_gap_and_their_intervals_the_best_first():
    arms = {"positions=none": lambda seed: (5.5, 7.5, 7.5)[seed], "positions=sincos": 4.0, "batch_size=128": 4.5}
    t = gap_study(arms, networks=("conv", "transformer-1"))
    t.runs["test_loss"] = t.runs["test_loss"].round(1)
    figure = figures.gap_bars(t)
    (ax,) = figure.axes
    # a gap of 1 nat; 2, 4 and 4 without positions: shares -1, -3, -3, mean -7/3, s 1.1547, 4.303 s / sqrt(3) = 2.868
    assert [bar.get_width() for bar in ax.patches] == pytest.approx([50, 0, 0, -700 / 3], abs=1e-6)
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names[0] == "sine and cosine positions" and names[-1] == "no positions"
    assert set(names[1:3]) == {"batches of 128", "encoding pix2vec"}
    assert "sine and cosine positions: 50 % (50 to 50 %)." in figure.alt
    assert "no positions: -233 % (-520 to 54 %)." in figure.alt


def test_a_gap_without_bars_is_not_run():
    one_seed = gap_study({"positions=sincos": 4.0}, networks=("conv", "transformer-1"), seeds=(0,))
    for t in (metrics.tables({}), one_seed):
        figure = figures.gap_bars(t)
        assert figure.alt.endswith("Not run.") and not figure.axes[0].patches
