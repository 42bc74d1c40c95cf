"""Figures show the numbers they are given, keep one language, and can be read on a phone and without eyes."""

import base64
import functools
import html
import io
import itertools
import json
import re
import subprocess
import sys
from urllib.parse import parse_qs

import matplotlib
import numpy as np
import pandas as pd
import pytest
from cycler import cycler
from made_records import leave_record, made_arrays, made_record, papers_cells
from matplotlib.colors import to_rgb
from PIL import Image

from isonb import config, features, schema, studies
from isonb.evidence import figures, metrics, picture, vectors
from isonb.evidence.picture import COLOURS, DASHES, MARKERS, name_of

PHONE_COLUMN = 358  # CSS pixels of a text column on a phone that is 390 wide
NARROW_DESK_COLUMN = 676  # and in a window that is 1280 wide, with the table of contents beside it


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setenv("ISONB_RESULTS", str(tmp_path))
    return tmp_path


def read(*runs, arrays=None):
    """Tables of made records, each with made arrays or those given."""
    return metrics.tables(
        {run.run_id: run for run in runs}, arrays={run.run_id: arrays or made_arrays() for run in runs}
    )


def leave_palette(results, **arrays):
    """A palette's file as `make bench` leaves it, with arrays beside it."""
    row = {"data": "photos", "colours": 512, "test_images": 2, "psnr": 30.5, "tokens": 16, "sub_pixels": 48}
    machine = {"processor": "A", "cores": 2, "threads": 1, "amx": True, "avx512_bf16": False, "torch": "2", "load": 0.5}
    (results / "benchmarks").mkdir()
    (results / "benchmarks" / "palette.json").write_text(json.dumps({"machine": machine, "rows": [row]}))
    np.savez(results / "benchmarks" / "palette.npz", **arrays)


@pytest.fixture
def runs():
    losses = {"conv": 3.0, "mixer": 4.0, "transformer": 5.0}
    return read(*(made_record(cell, losses[cell.run.block], 0.25) for cell in papers_cells("smoke"))).runs


CELLS = [
    {"pair": "mixer before transformer-4", "encoding": "rff", "size": 1, "mean": 0.25, "sign": 1},
    {"pair": "mixer before transformer-4", "encoding": "rff", "size": 3, "mean": -0.5, "sign": -1},
    {"pair": "mixer before transformer-4", "encoding": "pix2vec", "size": 3, "mean": 0.125, "sign": 0},
    {"pair": "conv before mixer", "encoding": "continuous", "size": 6, "mean": 1.0, "sign": 1},
]


def with_twin(run, accuracy=0.5):
    """The record with an untrained twin of that accuracy at every layer."""
    layers = [layer.model_copy(update={"test_accuracy": accuracy}) for layer in run.probe.layers]
    twin = schema.Probes(layers=layers, best_layer=1, test_accuracy=accuracy, seconds=1)
    return run.model_copy(update={"probe": run.probe.model_copy(update={"untrained": twin})})


@functools.cache
def every_figure():
    run = made_record(config.smoke())
    runs = [made_record(cell) for cell in studies.cells("smoke")]
    whole = read(*(made_record(cell) for cell in studies.cells("cpu") if cell.run.seed < 2 and not cell.selects_images))
    nothing = metrics.tables({})
    layers = {"mixer": {"network": "mixer"}, "size 6": {"network": "transformer-1", "depth": 6}}
    panels = {"one-hot": features.one_hot(), "same": np.ones((256, 256))}
    image = made_arrays()["original_BHWC"]
    return {
        "similarity": figures.similarity(panels),
        "similarity_by_distance": figures.similarity_by_distance(panels),
        "learning_curve": figures.learning_curve(run),
        "learning_curves": figures.learning_curves(runs),
        "probe_curve": figures.probe_curve(run.probe),
        "probe_curve, untrained": figures.probe_curve(with_twin(run).probe),
        "gains": figures.gains(read(*map(with_twin, runs)).runs),
        "no gains": figures.gains(nothing.runs),
        "signs": figures.signs(CELLS, CELLS, (1, 3, 6)),
        "no signs": figures.signs([], [], (1, 3, 6)),
        "scatter": figures.loss_accuracy(whole.runs, "network", "encoding", "depth"),
        "probes by layer": figures.probes_by_layer(whole, layers),
        "learned tables": figures.learned_tables(nothing),
        "sigmas": figures.trained_by_sigma(whole),
        "no sigmas": figures.trained_by_sigma(nothing),
        "reconstruction_by_block": figures.reconstruction_by_block(whole),
        "no palette": figures.palette(),
        "no objectives": figures.probes_by_objective(nothing),
        "by size": figures.loss_accuracy_by_size(whole.runs),
        "errors": figures.errors_by_block(whole),
        "no sizes": figures.loss_accuracy_by_size(nothing.runs),
        "no errors": figures.errors_by_block(nothing),
        "no phases": figures.two_phases(nothing),
        "no paths": figures.along_training(nothing),
        "no fine-tuning": figures.fine_tuning(nothing),
        "no points": figures.loss_accuracy(nothing.runs, "network", "depth"),
        "no layers": figures.probes_by_layer(nothing, layers),
        "no reconstructions": figures.reconstruction_by_block(nothing),
        "reconstructions": figures.reconstructions(image, image, image, ["a", "b", "c"]),
        "reconstruction_grid": figures.reconstruction_grid(studies.cells("smoke")),
        "drawn network": figures.network(config.RunConfig()),
        "drawn probe": figures.probe(config.RunConfig(), classes=10),
        "drawn step": figures.step(config.RunConfig(), processes=4),
        "drawn cell": figures.cell(),
        "drawn addition": figures.addition(),
        "drawn reach": figures.reach({("conv", size): 1 + 4 * size for size in (1, 3, 6)}, 32),
        "drawn symmetries": figures.symmetries(dict.fromkeys("ab", np.eye(8)), {"mixer": [np.eye(8), np.ones((8, 8))]}),
        "drawn positions": figures.positions({"sines": np.ones((16, 2)), "learned": np.eye(16)}, at=(1, 2)),
        "drawn groups": figures.groups(np.arange(3.0), np.arange(3.0), np.arange(3)),
        "drawn gap": figures.gap_bars(whole),
        "drawn no gap": figures.gap_bars(nothing),
    }


def luminance(colour):
    """Relative luminance as WCAG 2 defines it."""
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return np.dot([0.2126, 0.7152, 0.0722], linear)


@pytest.mark.parametrize("key", [*config.BLOCKS, *config.ENCODINGS])
def test_colours_stand_out_from_white(key):
    assert 1.05 / (luminance(COLOURS[key]) + 0.05) >= 4.5


@pytest.mark.parametrize("keys", [config.BLOCKS, config.ENCODINGS])
def test_no_two_of_a_kind_share_a_marker_or_a_colour(keys):
    for one, other in itertools.combinations(keys, 2):
        assert MARKERS[one] != MARKERS[other]
        assert np.abs(np.subtract(to_rgb(COLOURS[one]), to_rgb(COLOURS[other]))).max() > 0.25


@pytest.mark.parametrize("name", every_figure())
def test_letters_are_legible_on_a_phone(name):
    phone = every_figure()[name]
    for figure, column in ((phone, PHONE_COLUMN), (phone.wide, NARROW_DESK_COLUMN)):
        if figure:
            figure.draw_without_rendering()
            points_to_pixels = column / figure.get_figwidth() / 72
            sizes = [text.get_fontsize() for text in figure.findobj(lambda artist: hasattr(artist, "get_fontsize"))
                     if text.get_visible() and text.get_text()]  # fmt: skip
            assert sizes
            assert min(sizes) * points_to_pixels >= 10.3


@pytest.mark.parametrize("name", every_figure())
def test_letters_stay_inside_the_figure(name):
    phone = every_figure()[name]
    for figure in filter(None, (phone, phone.wide)):
        figure.draw_without_rendering()
        width, height = figure.get_size_inches() * figure.dpi
        drawn = figure.get_tightbbox().transformed(figure.dpi_scale_trans)
        assert drawn.x0 >= -1
        assert drawn.y0 >= -1
        assert drawn.x1 <= width + 1
        assert drawn.y1 <= height + 1


@pytest.mark.parametrize("name", every_figure())
def test_every_figure_has_a_caption_and_a_description_in_words(name):
    figure = every_figure()[name]
    shown = figure._repr_mimebundle_()
    assert figure.caption
    assert len(figure.alt) > 40
    assert shown["text/plain"] == figure.alt
    assert 'alt="' in shown["text/html"]
    assert "<figcaption>" in shown["text/html"]
    assert "http" not in shown["text/html"]


def test_a_figure_is_the_same_text_twice():
    one, other = (figures.similarity({"one-hot": features.one_hot()}).to_html() for _ in range(2))
    assert one == other


def test_nobodys_style_changes_a_figure():
    def drawn():
        run, image = made_record(config.smoke()), made_arrays()["original_BHWC"]
        pictures = figures.reconstructions(image, image, image, ["a", "b", "c"])
        curves = (figures.learning_curve(run), figures.probe_curve(run.probe), figures.gains(read(with_twin(run)).runs))
        shown = (*curves, figures.similarity_by_distance({"one-hot": features.one_hot()}), pictures)
        return [figure.to_html() for figure in shown] + [figure.compact().to_html() for figure in shown]

    of_a_person = {
        "axes.facecolor": "black", "axes.prop_cycle": cycler(color="r"), "figure.constrained_layout.use": True,
        "figure.dpi": 50, "font.family": "fantasy", "font.size": 30, "image.cmap": "jet", "legend.loc": "lower left",
        "lines.linestyle": "--", "path.simplify": False, "savefig.bbox": "tight", "savefig.dpi": 33,
        "savefig.transparent": True, "svg.fonttype": "none", "text.usetex": True, "xtick.labelsize": 3,
    }  # fmt: skip
    as_it_is = drawn()
    with matplotlib.rc_context(of_a_person):
        assert drawn() == as_it_is


def test_a_figure_is_drawn_for_a_phone_and_for_a_desk_but_compact_for_a_phone_alone():
    figure = figures.probe_curve(made_record(config.smoke()).probe)
    phone, desk = (pictures(figure.to_html())[width] for width in ("346", "576"))  # points: 4.8 and 8 inches
    assert phone.count("<text") == desk.count("<text") > 5
    assert list(pictures(figure.compact().to_html())) == ["346"]
    assert len(figure.to_html()) < 16_000


def test_letters_are_the_readers_and_pixels_are_those_of_the_image():
    pixels_BHWC = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 3), np.uint8)
    [drawing] = pictures(
        figures.reconstructions(pixels_BHWC, pixels_BHWC, pixels_BHWC, ["a", "b", "c"]).to_html()
    ).values()
    assert ">masked input</text>" in drawing and "DejaVu" not in drawing
    rasters = [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(source))).convert("RGB"))
        for source in re.findall(r'href="data:image/webp;base64,([^"]*)"', drawing)
    ]
    assert len(rasters) == 9
    for pixels_HWC in pixels_BHWC:  # the lowest row comes first, as the drawing turns it over
        assert (
            sum(any(np.array_equal(raster, way) for way in (pixels_HWC, pixels_HWC[::-1])) for raster in rasters) == 3
        )


def pictures(shown):
    """The drawings in a figure's HTML by their widths."""
    found = re.findall(r'"data:image/svg\+xml;base64,([^"]*)" width="(\d+)"', shown)
    return {width: base64.b64decode(source).decode() for source, width in found}


def test_colours_have_the_contrast_on_a_dark_page_that_they_have_on_a_light_one():
    assert vectors.on_dark("#ffffff") == vectors.DARK_PAGE
    assert luminance(vectors.on_dark("#000000")) > 0.99
    for key in (*config.BLOCKS, *config.ENCODINGS):
        light, dark = COLOURS[key].lower(), vectors.on_dark(COLOURS[key].lower())
        on_white = 1.05 / (luminance(light) + 0.05)
        on_black = (luminance(dark) + 0.05) / (luminance(vectors.DARK_PAGE) + 0.05)
        assert on_black == pytest.approx(min(on_white, 18.7), rel=0.03)


def test_a_drawing_in_the_dark_is_the_same_but_for_its_colours():
    [_, drawing] = pictures(figures.learning_curve(made_record(config.smoke())).to_html()).values()
    dark = vectors.dark(drawing)
    assert "stroke: #222222" in drawing and "#222222" not in dark
    without = [
        re.sub("(fill|stroke): ?#[0-9a-f]{6}", "", text.replace("svg{fill:#ffffff}", "")) for text in (drawing, dark)
    ]
    assert "".join(without[0].split()) == "".join(without[1].split())


def test_sizes_of_an_encoding_are_joined_and_numbered():
    cells = [config.cpu(depth=depth, seed=seed) for depth in (1, 3) for seed in (0, 1)]
    losses = {1: 4.0, 3: 3.0}
    t = read(*(made_record(cell, losses[cell.run.depth] + cell.run.seed, 0.25) for cell in cells))
    figure = figures.loss_accuracy_by_size(t.runs)
    ax, *_ = figure.axes
    single, joined, _ = ax.lines  # networks, means over seeds, and what the neighbours' mean costs
    assert sorted(single.get_xdata()) == [3, 4, 4, 5] and joined.get_xydata().tolist() == [[4.5, 25], [3.5, 25]]
    assert [text.get_text() for text in ax.texts] == ["1", "3", "neighbours' mean"]
    assert "convolution with continuous: size 1 4.50 nats and 25.0 %, size 3 3.50 nats and 25.0 %." in figure.alt
    assert "4 networks, study cpu, 2 seeds" in figure.caption


def test_errors_are_those_of_hidden_pixels_in_the_part_that_is_furthest_off():
    arrays = made_arrays(made_record(config.cpu()))
    arrays["original_BHWC"][0], is_masked_BHWC = 100, np.zeros_like(arrays["is_masked_BHWC"])
    is_masked_BHWC[:, 20:22, 20] = True  # two hidden pixels, off by 30 and by 10 levels in each channel
    filled = np.array(([130] * 3 + [110] * 3) * 3, np.uint8)
    figure = figures.errors_by_block(
        read(made_record(config.cpu()), arrays=arrays | {"is_masked_BHWC": is_masked_BHWC, "filled_S": filled})
    )
    truth, convolution = figure.axes[:2]
    assert (truth.get_title(), convolution.get_title()) == ("truth", "convolution")
    assert truth.images[0].get_array().shape[:2] == (14, 14)
    assert "Image 1, convolution: 20 levels off." in figure.alt
    assert [ax.texts[0].get_text() for ax in figure.axes[2:4]] == ["not run"] * 2


def test_words_that_are_markup_are_shown_as_words():
    image = made_arrays()["original_BHWC"][:1]
    shown = figures.reconstructions(image, image, image, ['<b>"x"</b>']).to_html()
    assert "&lt;b&gt;&quot;x&quot;&lt;/b&gt;" in shown
    assert "<b>" not in shown


def test_similarity_draws_each_matrix_on_one_scale():
    panels = {"one-hot": features.one_hot(), "half": np.full((256, 256), 0.5)}
    axes = figures.similarity(panels).axes[:2]
    for ax, (title, expected) in zip(axes, panels.items(), strict=True):
        drawn = ax.images[0]
        assert ax.get_title() == title
        np.testing.assert_array_equal(drawn.get_array(), expected)
        assert drawn.get_clim() == (-1, 1)
        assert ax.yaxis_inverted()  # value 0 at the top left, as in the paper
    assert "half: similarity 0.50 at distance 1, 0.50 at 64, 0.50 at 255." in figures.similarity(panels).alt


def test_learning_curve_shows_losses_and_baselines():
    run = made_record(config.smoke(), validation_loss=4.25)
    ax = figures.learning_curve(run).axes[0]
    drawn = {line.get_label(): line.get_xydata().tolist() for line in ax.lines}
    assert drawn["training"] == [[1, 4.5], [2, 4.5], [3, 4.5]]
    assert drawn["validation"] == [[0, 5.5], [1, 4.25], [2, 4.25], [3, 4.25]]
    flat = [line.get_ydata()[0] for line in ax.lines if line.get_linestyle() == ":"]
    assert flat == [5.545, 5.25, 3.875]
    assert "nats" in ax.get_ylabel()
    regressed = figures.learning_curve(made_record(config.smoke(objective="mse")))
    assert "squared error" in regressed.axes[0].get_ylabel() and "nats" not in regressed.alt + regressed.caption


def test_only_losses_in_nats_share_an_axis():
    runs = [made_record(config.cpu(objective=objective), 4.0) for objective in ("bert", "mse")]
    scatter = figures.loss_accuracy(read(*runs).runs, "network")
    assert "1 network," in scatter.caption and len(scatter.axes[0].containers) == 1
    curves = figures.learning_curves(runs)
    panels = len(config.GRID_ENCODINGS)  # with a guess in each
    assert "1 network," in curves.caption and sum(len(ax.lines) for ax in curves.axes) == 1 + panels


def on_other_images(run):
    return run.model_copy(update={"data": run.data.model_copy(update={"name": "cifar-10-jpeg"})})


def test_losses_on_other_images_share_no_axis_and_no_mean():
    ours = [made_record(config.cpu(seed=seed), 4.0) for seed in (0, 1)]
    other = on_other_images(made_record(config.cpu(seed=2), 40.0))
    guesses = schema.Baselines(uniform=9.0, channel_marginal=9.0, neighbour_mean=9.0)
    figure = figures.learning_curves([other.model_copy(update={"baselines": guesses}), *ours])
    assert sum(len(ax.lines) for ax in figure.axes) == 2 + len(config.GRID_ENCODINGS)  # two networks, and guesses
    assert "2 networks," in figure.caption and "mean of the neighbours, 3.875." in figure.caption
    assert figure.caption.endswith("Not drawn: networks that read cifar-10-jpeg, 80/20/40 images.")
    assert "40.00" not in figure.alt


def test_the_linear_filter_is_drawn_of_records_that_have_it():
    runs = [made_record(config.cpu(seed=seed), 4.0) for seed in range(3)]
    earlier, *later = (
        run.model_copy(update={"baselines": run.baselines.model_copy(update={"linear_filter": loss})})
        for run, loss in zip(runs, (None, 3.5, 3.75), strict=True)
    )
    picture = figures.learning_curves([earlier, *later])
    assert [set(line.get_ydata()) for line in picture.axes[0].lines[3:]] == [{3.875}, {3.625}]  # after three networks
    assert picture.caption.endswith("the mean of the neighbours, 3.875, and around a linear map, 3.625.")
    assert "linear filter 3.50." in figures.learning_curve(later[0]).alt
    assert "linear filter" not in figures.learning_curve(earlier).alt


def test_learning_curves_tell_one_head_from_four():
    runs = [made_record(config.cpu(block="transformer", heads=heads), 4.0) for heads in (1, 4)]
    picture = figures.learning_curves(runs)
    one, four, guess = picture.axes[0].lines
    assert set(guess.get_ydata()) == {3.875} and picture.caption.endswith("the mean of the neighbours, 3.875.")
    assert one.get_color() != four.get_color() and one.get_marker() != four.get_marker()
    assert [text.get_text() for text in picture.legends[0].get_texts()] == [
        "transformer (1 head)",
        "transformer (4 heads)",
    ]


def test_learning_curves_put_each_network_in_its_encodings_panel():
    runs = [made_record(config.smoke(block="mixer", encoding="pix2vec"), validation_loss=4.5)]
    panels = {ax.get_title(loc="left"): ax.lines for ax in figures.learning_curves(runs).axes}
    assert {title: len(lines) for title, lines in panels.items() if len(lines) > 1} == {"pix2vec": 2}
    assert {"continuous", "random Fourier"} < set(panels)
    line, _ = panels["pix2vec"]
    assert line.get_ydata().tolist() == [5.5, 4.5, 4.5, 4.5]
    assert line.get_color() == COLOURS["mixer"]
    assert "1 network, study smoke, seed 0, on 20 validation images of photos" in figures.learning_curves(runs).caption


def test_probe_curve_is_in_per_cent_and_names_the_chosen_layer():
    figure = figures.probe_curve(made_record(config.smoke(), test_accuracy=0.375).probe)
    drawn = {line.get_label(): line.get_xydata().tolist() for line in figure.axes[0].lines}
    assert drawn["test"] == [[0, 12.5], [1, 37.5]]
    assert drawn["chosen"] == [[1, 37.5]]
    assert "layer 1 is chosen, with 37.5 %" in figure.caption
    assert "made by a test" in figure.caption and "Thin" not in figure.caption


def test_gains_join_the_untrained_and_the_trained_accuracy_of_a_setting():
    run = made_record(config.smoke(), test_accuracy=0.25)
    figure = figures.gains(read(with_twin(run, 0.125)).runs)
    joined, before, after = (list(line.get_xdata()) for line in figure.axes[0].lines[:3])
    assert (joined, before, after) == ([12.5, 25.0], [12.5], [25.0])
    assert "convolution with continuous, size 1: 12.5 to 25.0 %." in figure.alt
    assert figures.gains(read(run).runs).alt == "Accuracy before and after pre-training. Not run."


def test_signs_have_a_number_where_they_are_clear_and_none_where_they_are_not():
    figure = figures.signs(CELLS, CELLS, (1, 3, 6))
    loss, accuracy, *_ = figure.axes  # of the first pair: mixer before transformer (4 heads)
    texts = {text.get_position(): text.get_text() for text in loss.texts}
    assert texts == {(0, 1): "+0.25", (1, 1): "\u22120.50", (1, 2): ""}
    assert {text.get_text() for text in accuracy.texts} == {"+25.0", "\u221250.0", ""}
    colours = {patch.get_xy(): patch.get_facecolor()[:3] for patch in loss.patches}
    assert len(colours) == 3 and len(set(colours.values())) == 3
    assert (
        "accuracy (points), convolution before mixer, continuous, size 6: +100.00, clearly as the paper says."
        in figure.alt
    )


def test_probe_curve_draws_earlier_epochs_thinner_and_paler():
    probe = made_record(config.smoke(), test_accuracy=0.375).probe
    earlier = [layer.model_copy(update={"test_accuracy": 0.25}) for layer in probe.layers]
    along = [
        schema.ProbedEpoch(layers=layers, best_layer=1, test_accuracy=layers[1].test_accuracy, seconds=1, epoch=epoch)
        for epoch, layers in ((1, earlier), (2, earlier), (3, probe.layers))
    ]
    figure = figures.probe_curve(probe.model_copy(update={"along": along}))
    thin = [line for line in figure.axes[0].lines if line.get_linewidth() < 1]
    assert [line.get_ydata().tolist() for line in thin] == [[25, 25]] * 2  # the last epoch is the network itself
    assert thin[0].get_alpha() < thin[1].get_alpha() < 1
    assert "Thin: the same on test images after epochs 1 to 2" in figure.caption
    assert "Chosen after epoch 2: 25.0 %." in figure.alt and "epoch 3" not in figure.alt


@pytest.mark.parametrize("factor", ["network", "encoding", "depth"])
def test_scatter_colours_by_the_factor_asked_for(runs, factor):
    figure = figures.loss_accuracy(runs, factor)
    points = {container.lines[0].get_color(): container.lines[0] for container in figure.axes[0].containers}
    for key, of_key in runs.groupby(factor):
        drawn = points.pop(COLOURS[key])
        assert drawn.get_xydata().tolist() == [[loss, 25.0] for loss in of_key["validation_loss"]]
        assert drawn.get_marker() == MARKERS[key]
    assert not points
    assert len(figure.axes[0].get_legend().legend_handles) == runs[factor].nunique()
    assert "9 networks, study smoke, seed 0; bars are 95 % intervals over 40 test images" in figure.caption


def test_scatter_leaves_out_networks_that_are_not_the_studys():
    t = read(made_record(config.smoke()), made_record(config.smoke(depth=2)),
             made_record(config.smoke(block="transformer", heads=2)))  # fmt: skip
    figure = figures.loss_accuracy(t.runs, "depth")
    assert len(figure.axes[0].containers) == 1
    assert "1 network," in figure.caption


def test_scatter_bars_are_wilson_intervals(runs):
    figure = figures.loss_accuracy(runs.head(1), "network")
    (bar,) = figure.axes[0].containers[0].lines[2]
    low, high = bar.get_segments()[0][:, 1]
    # Wilson's formula by hand for 10 of 40: centre (p + z²/2n) / (1 + z²/n), half-width z/(1 + z²/n) √(pq/n + z²/4n²)
    assert low == pytest.approx(14.187, abs=2e-3)
    assert high == pytest.approx(40.194, abs=2e-3)


@pytest.mark.parametrize(
    "draw",
    [
        lambda t: figures.loss_accuracy(t.runs, "network", "encoding"),
        lambda t: figures.probes_by_layer(t, {"a": {}, "b": {"depth": 6}}),
        figures.learned_tables,
        figures.trained_by_sigma,
        figures.reconstruction_by_block,
        lambda t: figures.palette(),
        figures.probes_by_objective,
        figures.two_phases,
        figures.along_training,
        figures.fine_tuning,
    ],
)
def test_without_a_run_every_panel_says_not_run(draw):
    figure = draw(metrics.tables({}))
    empty = [ax for ax in figure.axes if [text.get_text() for text in ax.texts] == ["not run"]]
    assert len(empty) == len([ax for ax in figure.axes if ax.get_label() != "<colorbar>"])
    assert "not run" in figure.caption


def test_probes_by_layer_are_means_over_seeds_with_each_seed_beside():
    cells = [config.cpu(block="mixer", encoding="rff", seed=seed) for seed in (0, 1)]
    others = [config.cpu(block="conv"), config.cpu(block="mixer", encoding="rff", learning_rate=0.001)]
    seeds = [made_record(cell, test_accuracy=accuracy) for cell, accuracy in zip(cells, (0.25, 0.5), strict=True)]
    figure = figures.probes_by_layer(read(*seeds, *map(made_record, others)), {"mixer": {"network": "mixer"}})
    lines = [line for line in figure.axes[0].lines if line.get_color() == COLOURS["rff"]]
    assert [line.get_ydata().tolist() for line in lines] == [[12.5, 25.0], [12.5, 50.0], [12.5, 37.5]]
    assert lines[-1].get_marker() == MARKERS["rff"]
    assert lines[-1].get_linewidth() > lines[0].get_linewidth()
    assert "2 networks, study cpu, 2 seeds" in figure.caption
    # Wilson by hand for 1/2 of 40: half-width z √(1/160 + z²/6400) / (1 + z²/40) = 14.8 points
    assert "at most 14.8 points" in figure.caption
    assert "mixer, random Fourier, size 1, layers 0 to 1: 12.5, 37.5 %" in figure.alt


def test_a_caption_counts_the_seeds_of_each_setting():
    of_settings = [("rff", 1, 0), ("rff", 1, 1), ("rff", 3, 0), ("rff", 3, 2)]
    runs = pd.DataFrame(of_settings, columns=["encoding", "depth", "seed"]).assign(
        network="conv", arm="main", study="cpu"
    )
    assert picture.describe(runs) == "4 networks, study cpu, 2 seeds"
    assert picture.describe(runs[:3]) == "3 networks, study cpu, 1 to 2 seeds"
    assert picture.describe(runs[["study", "seed"]]) == "4 networks, study cpu, 3 seeds"
    assert picture.describe(runs[2:3]) == "1 network, study cpu, seed 0"


def test_a_caption_leads_to_the_runs_of_its_figure(runs):
    shown = runs[(runs["network"] != "mixer") & (runs["encoding"] == "rff")]
    page = figures.loss_accuracy(shown, "network").to_html()
    [(address, text)] = re.findall('<figcaption>.*?<a class="isonb-behind" href="(.*?)">(.*?)</a>, study smoke', page)
    chosen = parse_qs(html.unescape(address).partition("?")[2])
    assert text == f"{len(shown)} networks"
    assert (chosen["study"], chosen["run"]) == (["smoke"], sorted(shown["run_id"]))
    assert "isonb-behind" not in figures.loss_accuracy(runs[:0], "network").to_html()


def test_learned_tables_are_the_cosines_of_the_red_channel():
    angle_V = np.linspace(0, np.pi, 256)
    red_VD = np.stack([np.cos(angle_V), np.sin(angle_V)], axis=1)
    packed_P = features.pack_similarity(features.cosine_similarity(red_VD))
    cells = [config.cpu(block="mixer", encoding="pix2vec", depth=3, seed=seed) for seed in (2, 1)]
    figure = figures.learned_tables(read(*map(made_record, cells), arrays={"similarity_P": packed_P}))
    drawn = {ax.get_title(): [image.get_array() for image in ax.images] for ax in figure.axes[:4]}
    assert [title for title, images in drawn.items() if images] == ["mixer"]
    # unit vectors at angles a and b have the cosine cos(a - b)
    np.testing.assert_allclose(drawn["mixer"][0], np.cos(angle_V[:, None] - angle_V), atol=1 / 64 + 1e-9)
    assert "1 network, study cpu, seed 1" in figure.caption  # the lowest seed at hand


def test_sigma_in_trained_networks_is_a_line_of_means_with_each_seed_beside():
    def run(block, sigma, seed, loss, accuracy, **more):
        cell = config.cpu(block=block, encoding="rff", depth=1, sigma=sigma, seed=seed, **more)
        return made_record(cell, loss, accuracy)

    conv = [run("conv", 0.1, 0, 4.5, 0.25), run("conv", 1.0, 0, 3.5, 0.5), run("conv", 10.0, 0, 4.0, 0.25)]
    seeds = [run("conv", 1.0, 1, 3.0, 0.25), run("conv", 0.1, 0, 1.0, 1.0, learning_rate=0.001)]
    figure = figures.trained_by_sigma(read(*conv, *seeds, run("mixer", 1.0, 0, 2.0, 0.5)))
    for drawn in (figure, figure.wide):
        loss, accuracy = drawn.axes
        *lines, guess = loss.lines
        assert [line.get_ydata().tolist() for line in lines] == [[4.5, 3.5, 4.0, 3.0], [4.5, 3.25, 4.0]]
        assert [line.get_ydata().tolist() for line in accuracy.lines] == [[25, 50, 25, 25], [25, 37.5, 25]]
        assert {line.get_color() for line in (*lines, *accuracy.lines)} == {COLOURS["conv"]}
        assert guess.get_ydata() == [3.875, 3.875]
        assert [tick.get_text() for tick in loss.get_xticklabels()] == ["0.1", "1", "10"]
    assert "4 networks, study cpu, 1 to 2 seeds" in figure.caption  # the mixer has run with one sigma alone
    assert "Dotted: neighbours' mean 3.875." in figure.caption
    assert "convolution, loss (nats per masked sub-pixel): 4.5 at 0.1, 3.25 at 1, 4 at 10." in figure.alt


def test_the_palette_is_shown_below_its_originals(results):
    original, quantised = (np.full((3, 4, 4, 3), value, np.uint8) for value in (9, 8))
    quality = {"psnr_B": np.array([30.0, 31.0]), "colour_error_B": np.array([4.0, 5.0])}
    leave_palette(results, original_BHWC=original, quantised_BHWC=quantised, **quality)
    figure = figures.palette()
    assert [ax.images[0].get_array().max() for ax in figure.axes] == [9] * 3 + [8] * 3
    assert "ratio 30.5 dB, colours off by 4.5 of 255 levels over 2 test images of photos; 16 tokens" in figure.caption
    assert [ax.get_ylabel() for ax in figure.axes[::3]] == ["original", "512 colours"]


def test_probes_by_objective_tell_the_objectives_apart():
    cells = [config.cpu(block="transformer", depth=3), config.cpu(block="transformer", depth=3, heads=4)]
    t = read(*(made_record(cell, test_accuracy=0.5) for cell in cells))
    moved = t.runs["network"] == "transformer-4"
    t.runs.loc[moved, "arm"] = "objective=autoregressive"
    panels = {ax.get_title(loc="left"): ax for ax in figures.probes_by_objective(t).axes}
    drawn = {title for title, ax in panels.items() if any(line.get_linewidth() > 1 for line in ax.lines)}
    assert drawn == {"BERT, 1 head", "autoregressive, 4 heads"}


def test_a_panel_that_has_not_run_is_low_and_says_so():
    t = read(made_record(config.cpu(block="transformer", depth=3)), made_record(config.cpu(block="transformer")))
    some = figures.probes_by_layer(t, {"none": {"network": "mixer"}, "some": {"network": "transformer-1"}})
    some.draw_without_rendering()
    none, drawn = (ax.get_position().height for ax in some.axes)
    assert none < drawn / 2
    legends = [[text.get_text() for text in ax.get_legend().get_texts()] if ax.get_legend() else [] for ax in some.axes]
    assert legends == [[], ["size 1", "size 3"]]
    one = figures.probes_by_layer(t, {"3": {"depth": 3}})
    assert "Linear probes by layer of size 3, on test images: 1 network," in one.caption


def test_an_objective_without_masks_has_a_loss_over_all_sub_pixels():
    run = made_record(config.cpu(block="transformer", objective="autoregressive"))
    assert figures.learning_curve(run).axes[0].get_ylabel() == "loss (nats per sub-pixel)"
    assert figures.learning_curve(made_record(config.cpu())).axes[0].get_ylabel() == "loss (nats per masked sub-pixel)"
    t = read(run, made_record(config.cpu()))
    assert "1 network," in figures.loss_accuracy(t.runs, "network").caption


def test_class_and_pixels_are_read_from_the_same_layers():
    cells = [config.cpu(block="transformer", depth=3, objective=objective) for objective in ("autoregressive", "bert")]
    t = read(*map(made_record, cells), made_record(config.cpu()))
    t.layers["pixel_accuracy"] = [0.5, 0.25, 0.25, 0.25, 0.125, 0.25, 0.25, 0.25, np.nan, np.nan]
    figure = figures.two_phases(t)
    drawn = {ax.get_title(loc="left"): [line.get_ydata().tolist() for line in ax.lines] for ax in figure.axes}
    assert drawn == {
        "autoregressive, transformer (1 head), size 3": [[12.5, 25, 25, 25], [50, 25, 25, 25]],
        "BERT, transformer (1 head), size 3": [[12.5, 25, 25, 25], [12.5, 25, 25, 25]],
    }
    assert [line.get_linestyle() for line in figure.axes[0].lines] == ["-", "--"]
    assert "2 networks, study cpu, seed 0" in figure.caption
    assert (
        "autoregressive, transformer (1 head), size 3, continuous: class best at layer 1, pixels at layer 0."
        in figure.alt
    )


def test_paths_along_training_end_in_the_encodings_marker():
    t = read(made_record(config.cpu(block="transformer", depth=3)), made_record(config.cpu(encoding="rff")))
    t.curves["probe_accuracy"] = [0.1, *[0.25] * 6] * 2
    figure = figures.along_training(t)
    panels = {ax.get_title(loc="left"): ax.lines for ax in figure.axes}
    for (path, end, *guesses), (encoding, size) in zip(panels.values(), (("rff", 1), ("continuous", 3)), strict=True):
        assert [line.get_xdata()[0] for line in guesses] == [3.875]  # the neighbours' mean
        assert path.get_xydata().tolist() == [[5.5, 10], *[[4, 25]] * 6]
        assert (end.get_xydata().tolist(), end.get_marker()) == ([[4, 25]], MARKERS[encoding])
        assert (path.get_color(), path.get_linestyle()) == (COLOURS[encoding], DASHES[size])
    assert list(panels) == ["convolution", "transformer (1 head)"]
    assert "2 networks, study cpu, seed 0" in figure.caption
    assert "5.50 to 4.00 nats, 10.0 to 25.0 %" in figure.alt


def test_only_networks_that_were_probed_along_training_have_paths():
    t = read(made_record(config.cpu(block="transformer")), made_record(config.cpu()))
    t.curves["probe_accuracy"] = [0.1, *[0.25] * 6, *[np.nan] * 7]
    figure = figures.along_training(t)
    assert [ax.get_title(loc="left") for ax in figure.axes] == [name_of(t.curves["network"].iloc[0])]
    assert "1 network," in figure.caption


def test_fine_tuning_is_joined_with_the_probe_of_the_same_network():
    t = read(made_record(config.cpu(block="transformer"), test_accuracy=0.25), made_record(config.cpu()))
    t.runs["finetune_accuracy"], t.runs["scratch_accuracy"] = [0.75, 0.75], [0.5, 0.5]
    figure = figures.fine_tuning(t)
    bert, autoregressive = figure.axes
    assert [line.get_ydata().tolist() for line in bert.lines] == [[25, 75, 50]] * 2
    assert not autoregressive.lines and autoregressive.texts[0].get_text() == "not run"
    assert "BERT: linear probe 25.0 %, fine-tuned 75.0 %, from scratch 50.0 %. autoregressive: not run." in figure.alt


def test_reconstructions_by_block_are_of_networks_that_share_all_else():
    cells = [config.cpu(block="conv", depth=6), config.cpu(block="conv", depth=3), config.cpu(block="mixer", depth=3),
             config.cpu(block="conv"), config.cpu(block="mixer")]  # fmt: skip
    figure = figures.reconstruction_by_block(read(*map(made_record, cells)))
    assert "size 3, continuous input; 2 networks" in figure.caption
    titles = [ax.get_title() for ax in figure.axes[:5]]
    assert titles == ["masked", "convolution", "mixer", "transformer\n(1 head)", "original"]
    assert [len(ax.images) for ax in figure.axes[:5]] == [1, 1, 1, 0, 1]


def test_reconstructions_come_in_the_order_masked_filled_original():
    masked, filled, original = (np.full((1, 4, 4, 3), value, np.uint8) for value in (1, 2, 3))
    axes = figures.reconstructions(masked, filled, original, ["cat"]).axes
    assert [ax.images[0].get_array().max() for ax in axes] == [1, 2, 3]
    assert [ax.get_title() for ax in axes] == ["masked input", "reconstruction", "original"]


def test_a_class_may_be_called_by_what_looks_like_a_formula():
    picture = np.zeros((1, 4, 4, 3), np.uint8)
    figure = figures.reconstructions(picture, picture, picture, [r"$\bad{x}$"])
    assert figure.axes[0].get_ylabel() == r"$\bad{x}$"
    figure.to_html()


@pytest.mark.parametrize("name", ["$\\frac{", "x" * 300, "a\nb\r\n\x00\x1b[31m", "<script>7</script>", "\u202egnp", ""])
def test_a_class_may_have_any_name(name):
    pictures = made_arrays()["original_BHWC"]
    figure = figures.reconstructions(pictures, pictures, pictures, [name, "b", "c"])
    assert "<script" not in figure.to_html()
    assert "\n" not in figure.axes[0].get_ylabel()
    [_, height] = figure.get_size_inches()
    assert height > 2  # three rows of pictures that can be seen


def test_arrays_that_cannot_be_read_leave_a_place_empty(results):
    for cell in studies.cells("smoke"):
        path = leave_record(made_record(cell)).with_suffix(".npz")
    path.write_bytes(path.read_bytes()[:-9])
    figure = figures.reconstruction_grid(studies.cells("smoke"))
    assert [text.get_text() for ax in figure.axes for text in ax.texts] == ["not run"]


def test_grid_says_not_run_where_a_network_is_missing(results):
    cell = config.smoke(block="mixer", encoding="rff")
    leave_record(made_record(cell))
    figure = figures.reconstruction_grid(studies.cells("smoke"))
    words = [[text.get_text() for text in ax.texts] for ax in figure.axes]
    blocks = len(config.GRID_BLOCKS)
    last = len(config.GRID_ENCODINGS) + 1  # a column of masked pictures, and one of originals
    shown = {divmod(place, last + 1) for place, ax in enumerate(figure.axes) if ax.images}
    assert shown == {(row, column) for row in range(blocks) for column in (0, last)} | {(1, 2)}
    assert words.count(["not run"]) == blocks * (last - 1) - 1


def test_grid_shows_networks_that_saw_the_same_picture(results):
    cells = [config.smoke(block=block) for block in ("conv", "mixer")]
    cells.append(config.smoke(block="mixer", encoding="rff"))
    runs = list(map(made_record, cells))
    for run in (runs[0], on_other_images(runs[1]), runs[2]):
        leave_record(run)
    figure = figures.reconstruction_grid(studies.cells("smoke"))
    blocks, last = len(config.GRID_BLOCKS), len(config.GRID_ENCODINGS) + 1
    shown = {divmod(place, last + 1) for place, ax in enumerate(figure.axes) if ax.images}
    assert shown == {(row, column) for row in range(blocks) for column in (0, last)} | {(0, 1), (1, 2)}
    assert "2 networks" in figure.caption


def test_drawing_leaves_pyplot_and_torch_alone():
    check = "import sys, isonb.evidence.figures; print({'torch', 'matplotlib.pyplot'} & set(sys.modules))"
    printed = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "set()"
