"""What the book reads of the benchmarks: slopes by hand, ratios as measured, and "not run" where nothing was."""

import functools
import importlib.util
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_records import leave_record, made_record

from isonb import config, places
from isonb.config import RunConfig
from isonb.evidence import benchmarks

MACHINE = {"processor": "A processor", "cores": 2, "threads": 1, "amx": True, "avx512_bf16": False,
           "torch": "2.0", "python": "3.11", "load": 0.25, "float32_rate": 1.0, "bfloat16_rate": 1.0}  # fmt: skip


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.setenv("ISONB_RESULTS", str(tmp_path))

    def write(part, rows):
        path = tmp_path / "benchmarks" / f"{part}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"machine": MACHINE, "seconds": 1.0, "rows": rows}))
        return path

    return write


def growth(power, batches=(8, 32), scatter=(1.0, 1.0, 1.0)):
    rows = [
        (n, batch, batch * n**power * s) for batch in batches for n, s in zip((256, 512, 1024), scatter, strict=True)
    ]
    return pd.DataFrame(rows, columns=["positions", "batch", "peak_bytes"])


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_the_slope_is_the_power_with_which_memory_grows_whatever_the_batch(power):
    slope, (low, high) = benchmarks.memory_slope(growth(power))
    assert (slope, low, high) == pytest.approx((power, power, power))


def test_the_slopes_interval_is_students():
    # In units of log 2 each batch's middle is one too high: x = -1, 0, 1, and residuals -1/3, 2/3, -1/3.
    slope, (low, high) = benchmarks.memory_slope(growth(1.0, scatter=(1.0, 2.0, 1.0)))
    error = np.sqrt((2 * (1 + 4 + 1) / 9) / 3 / 4)  # six points, two heights, one slope: 3 degrees of freedom
    assert slope == pytest.approx(1.0)
    assert (high - low) / 2 == pytest.approx(3.1824463 * error)


def test_two_points_have_a_slope_and_no_interval():
    slope, interval = benchmarks.memory_slope(growth(2.0, batches=(8,)).iloc[:2])
    assert slope == pytest.approx(2.0)
    assert interval == (-np.inf, np.inf)


def test_memory_is_shown_by_kind_and_batch(write):
    sizes = ((256, 1), (512, 2), (1024, 4))
    write("memory", [{"kind": "mixer", "positions": n, "batch": 8, "peak_bytes": m * 2**20} for n, m in sizes])
    [row] = benchmarks.memory_by_positions().to_dict("records")
    assert row == {"kind": "mixer", "batch": 8, "256 positions": "1 MiB", "512 positions": "2 MiB",
                   "1024 positions": "4 MiB", "slope": "1.00"}  # fmt: skip


def test_a_ratio_is_shown_with_its_least_and_its_greatest(write):
    ratio = {"median": 2.54, "least": 2.0, "greatest": 3.0, "processor_time": 9.0}
    step = {"block": "conv", "depth": 3, "speed_up": {"auto": ratio}, "loss_difference": {"auto": 1e-4}}
    write("steps", [step | {"batch": 32}])
    write("large", [step | {"batch": 128}])
    row, large = benchmarks.table("steps", "large").to_dict("records")
    assert (row["batch"], large["batch"], large["ours"]) == (32, 128, row["ours"])
    assert row["ours"] == "2.5 (2.0 to 3.0)"
    assert row["in processor time"] == "9.0"
    assert row["ours in float32"] == "not run"
    assert benchmarks.machine("steps") == (
        "Measured on A processor with amx, 1 of 2 cores, torch 2.0; load average 0.2 at the start."
    )


def test_a_compiled_step_is_shown_with_the_seconds_to_its_first(write):
    ratio = {"median": 1.04, "least": 0.9, "greatest": 1.26, "processor_time": 1.0}
    write("compiled", [{"block": "conv", "depth": 1, "batch": 32, "speed_up": ratio, "first_step_seconds": 61.4}])
    [row] = benchmarks.table("compiled").to_dict("records")
    assert row == {"block": "conv", "size": 1, "batch": 32, "compiled": "1.0 (0.9 to 1.3)", "first step": "61 s"}


def test_two_loss_curves_are_compared_step_by_step(write):
    losses = {"auto": [5.5, 5.1, 4.75], "plain": [5.5, 5.0, 4.7]}
    write("curves", [{"block": "conv", "losses": losses}])
    [row] = benchmarks.table("curves").to_dict("records")
    assert row == {"block": "conv", "steps": 3, "loss at first": "5.500", "ours at last": "4.750",
                   "plain at last": "4.700", "at most apart": "0.100", "from batch to batch": "0.400"}  # fmt: skip


def test_a_forecast_is_shown_with_its_error(write):
    write("forecast", [{"block": "mixer", "depth": 1, "images": 4800, "predicted_seconds": 90.0,
                        "measured_seconds": 120.0}])  # fmt: skip
    [row] = benchmarks.table("forecast").to_dict("records")
    assert row == {"block": "mixer", "size": 1, "images": "4,800", "predicted": "90 s", "measured": "120 s",
                   "error": "-25%"}  # fmt: skip


def test_a_library_that_was_skipped_has_no_row(write):
    write("peers", [{"skipped": "transformers is not installed"}])
    assert benchmarks.table("peers").to_dict("records") == [{"library": "not run"}]


def compared(block, heads=1, **ratios):
    return {
        "library": "a 1.0", "block": block, "heads": heads, "depth": 3, "batch": 32,
        "parameters_per_block": {"peer": 1000, "ours": 2000}, "parameters": {"peer": 3000, "ours": 4000},
        "outputs": {"peer": [1, 512] if block == "transformer" else [3, 256], "ours": [3, 256]},
        "speed_up": {
            name: {"median": times, "least": 1.0, "greatest": 4.0, "processor_time": times / 2}
            for name, times in ratios.items()
        },
    }  # fmt: skip


def test_a_library_is_compared_on_its_own_objective_on_its_outputs_and_with_our_step(write):
    several = compared("transformer", 4, autoregressive=1.5, palette=2.0, trainer=3.0)
    write("peers", [several, compared("mixer", trainer=2.5)])
    both = {
        "library": "a 1.0",
        "size": 3,
        "our network": "2,000 parameters a block, 4,000 in all; 3 x 256 values a pixel",
    }
    assert benchmarks.table("peers").to_dict("records") == [
        both | {"heads": 4, "same objective": "1.5 (1.0 to 4.0)", "same outputs": "2.0 (1.0 to 4.0)",
                "our BERT step": "3.0 (1.0 to 4.0)",
                "their network": "1,000 parameters a block, 3,000 in all; 1 x 512 values a pixel"},
        both | {"heads": "none", "same objective": "2.5 (1.0 to 4.0)", "same outputs": "2.5 (1.0 to 4.0)",
                "our BERT step": "2.5 (1.0 to 4.0)",
                "their network": "1,000 parameters a block, 3,000 in all; 3 x 256 values a pixel"},
    ]  # fmt: skip


def test_shares_of_a_steps_time_are_shown_with_the_rate_that_it_reaches(write):
    shares = {"products": 0.5, "norms": 0.25, "gelu": 0.125, "copies": 0.0625, "rest": 0.0625}  # the first four
    write("profile", [{"block": "conv", "depth": 3, "share_of_rate": 0.4, "shares": shares}])
    [row] = benchmarks.table("profile").to_dict("records")
    assert row == {"block": "conv", "size": 3, "share of the product rate": "40%",
                   "time goes to": "products 50%, norms 25%, gelu 12%, copies 6%"}  # fmt: skip


def test_two_processes_are_shown_beside_two_that_share_nothing(write):
    efficiency = {"median": 0.912, "least": 0.8, "greatest": 1.0}
    write("processes", [{"block": "conv", "depth": 3, "batch": 64, "processes": 2, "efficiency": efficiency,
                         "efficiency_processor_time": 0.95, "efficiency_apart": 0.9,
                         "loss_difference": 1e-7}])  # fmt: skip
    [row] = benchmarks.table("processes").to_dict("records")
    assert row == {"block": "conv", "size": 3, "global batch": 64, "processes": 2,
                   "efficiency": "0.91 (0.80 to 1.00)", "in processor time": "0.95",
                   "two that share nothing": "0.90", "loss differs by": "1e-07"}  # fmt: skip


def test_precision_is_shown_beside_the_spread_of_the_seeds(write):
    row = {"block": "conv", "depth": 1, "encoding": "continuous", "validation_loss": {"float32": 3.5, "bfloat16": 3.49},
           "accuracy": {"float32": 0.41, "bfloat16": 0.4}}  # fmt: skip
    several = {"count": 3, "validation_loss": 0.02, "accuracy": 0.005}
    none = {"count": 1, "validation_loss": None, "accuracy": None}
    write("precision", [row | {"seeds": several}, row | {"seeds": none}])
    shown, alone = benchmarks.table("precision").to_dict("records")
    assert shown == {"network": "conv, size 1", "encoding": "continuous", "loss in float32": "3.5000",
                     "bfloat16 changes it by": "-0.0100", "spread of seeds": "0.0200 (3 seeds)",
                     "accuracy in float32": "41.0%", "bfloat16 changes that by": "-1.0",
                     "spread of its seeds": "0.5 (3 seeds)"}  # fmt: skip
    assert alone["spread of seeds"] == alone["spread of its seeds"] == "not run"


@pytest.mark.parametrize("part", benchmarks.COLUMNS)
def test_a_table_of_what_was_not_measured_reads_not_run(write, part):
    table = benchmarks.table(part)
    assert table.shape == (1, 1)
    assert table.iloc[0, 0] == "not run"


def test_what_was_not_measured_reads_not_run(write):
    assert benchmarks.memory().empty
    assert benchmarks.memory_by_positions().iloc[0, 0] == "not run"
    assert benchmarks.machine("steps") == "steps: not run"
    assert benchmarks.probing_in_words() == "not run"


def test_what_probing_saves_is_shown_as_ratios_and_what_it_changes_as_points(write):
    write("probing", [{"block": "conv", "depth": 6, "passes": {"ours": 200, "paper": 84_000},
                       "seconds": {"ours": 4.0, "paper": 300.0}, "images": 336, "test_images": 96,
                       "accuracies": {"ours": [0.5, 0.25], "paper": [0.5, 0.26]}}])  # fmt: skip
    accuracies = {"adam": [0.25, 0.4], "lbfgs": [0.25, 0.407], "not_whitened": [0.2, 0.375]}
    write("solvers", [{"block": "conv", "depth": 1, "data": "cifar10", "train_images": 3600, "test_images": 1000,
                       "accuracies": accuracies}])  # fmt: skip
    assert benchmarks.table("probing").to_dict("records") == [
        {"network": "conv, size 6", "of": "passes", "at once": "200", "plainly": "84,000",
         "times as many": "420"},
        {"network": "conv, size 6", "of": "processor seconds", "at once": "4", "plainly": "300",
         "times as many": "75"},
    ]  # fmt: skip
    assert benchmarks.table("solvers")["differ by"].tolist() == ["0.0 points", "0.7 points"]
    assert benchmarks.table("solvers")["Adam, not whitened"].tolist() == ["20.0%", "37.5%"]
    words = benchmarks.probing_in_words()
    assert words.endswith("To Adam, whitening is worth +2.5 to +2.5 points on the outputs of the blocks.")
    assert "420 times fewer passes and 75 times less processor time" in words and "by more than 1.0 points (96" in words
    assert "3,600 training images of cifar10, are at most 0.7 points apart on 1,000 test images." in words


def test_accuracies_that_are_the_same_are_called_so(write):
    same = {"ours": [0.5, 0.25], "paper": [0.5, 0.25]}
    counts = {"ours": 1, "paper": 2}
    shown = {"images": 336, "test_images": 96}
    write("probing", [{"block": "conv", "depth": 1, "passes": counts, "seconds": counts, "accuracies": same, **shown}])
    assert benchmarks.probing_in_words().endswith("carried out in full, all accuracies agree (96 test crops).")


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """`python tests/benchmarks`, where every network is tiny."""
    monkeypatch.setenv("ISONB_RESULTS", str(tmp_path))
    folder = Path(__file__).parent / "benchmarks"
    monkeypatch.syspath_prepend(str(folder))
    specification = importlib.util.spec_from_file_location("benchmarks", folder / "__main__.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    monkeypatch.setattr("timing.multiply_rate", lambda dtype: 1e9)
    monkeypatch.setattr(module.steps, "BLOCKS", ("conv", "transformer"))
    for part in (module.steps, module.peers):
        monkeypatch.setattr(part, "RunConfig", functools.partial(RunConfig, image_size=8, width=8))
    return module


@pytest.mark.slow
def test_steps_of_both_batch_sizes_are_measured_kept_and_shown(bench, monkeypatch):
    monkeypatch.setattr("sys.argv", ["bench", "steps", "large", "--rounds", "1", "--repeats", "4"])
    bench.main()
    small, large = (json.loads((places.results_folder("benchmarks") / f"{part}.json").read_text())["rows"]
                    for part in ("steps", "large"))  # fmt: skip
    cases = [(block, depth) for depth in (1, 3) for block in ("conv", "transformer")]
    assert [(row["block"], row["depth"]) for row in small] == [(row["block"], row["depth"]) for row in large] == cases
    assert {(row["batch"], row["steps"]) for row in small} == {(32, 4)}
    assert {(row["batch"], row["steps"]) for row in large} == {(128, 1)}
    for row in (*small, *large):
        assert row["loss_difference"]["float32"] < 1e-4  # the plain form learns the same from the same
    assert benchmarks.table("steps", "large")["batch"].tolist() == 4 * [32] + 4 * [128]
    text = (places.results_folder("benchmarks") / "large.txt").read_text()
    assert "transformer, depth 3, batch 128: 1 timed steps" in text


def test_drawing_with_what_blocks_remember_is_measured_beside_whole_passes(bench):
    text = bench.write("samples", bench.samples.run(1, 1, sizes=(2,), image_size=8, width=8))
    measured = json.loads((places.results_folder("benchmarks") / "samples.json").read_text())["rows"]
    assert [row["block"] for row in measured] == ["conv", "mixer", "transformer"]
    assert all(row["difference"] < 1e-12 and row["speed_up"]["median"] > 0 for row in measured)
    assert "mixer, depth 2, 8 images: " in text
    assert benchmarks.table("samples")["size"].tolist() == [2, 2, 2]


def test_a_library_that_is_not_installed_is_named_with_the_way_to_install_it(bench, monkeypatch):
    monkeypatch.setattr(bench.peers.importlib.util, "find_spec", lambda name: None)
    text = bench.write("peers", bench.peers.run(1, 1))
    assert "transformers is not installed: pip install --editable '.[bench]'." in text
    assert "mlp_mixer_pytorch is not installed" in text


def test_the_causal_blocks_between_a_palette_see_no_later_colour(bench):
    torch = bench.torch
    run = RunConfig(block="transformer", objective="autoregressive", image_size=8, width=8, heads=2)
    torch.manual_seed(0)
    network = bench.peers.PaletteNetwork(run)
    colour_BN = torch.randint(bench.peers.PALETTE, (1, 64))
    changed_BN = colour_BN.clone()
    changed_BN[0, 40] = (colour_BN[0, 40] + 1) % bench.peers.PALETTE
    with torch.autocast("cpu", dtype=torch.bfloat16):
        before, after = network(colour_BN), network(changed_BN)
    assert before.shape == (1, 64, bench.peers.PALETTE)
    assert before.dtype == torch.bfloat16 and network(colour_BN).dtype == torch.float32  # as the machine multiplies
    assert torch.equal(before[:, :40], after[:, :40])
    assert not torch.equal(before[:, 40:], after[:, 40:])


def test_the_spread_is_over_the_seeds_of_a_cell_on_the_same_images(bench):
    one = config.smoke(block="mixer")
    losses = {0: (3.0, 0.25), 1: (3.2, 0.5), 2: (3.4, 0.75)}
    made = [made_record(config.smoke(block="mixer", seed=seed), *values) for seed, values in losses.items()]
    others = [made_record(config.smoke(block=block, seed=3, epochs=2), 9.0) for block in ("conv", "mixer")]
    elsewhere = made_record(config.smoke(block="mixer", seed=4), 9.0)
    elsewhere = elsewhere.model_copy(update={"data": elsewhere.data.model_copy(update={"name": "others"})})
    for record in (*made, *others, elsewhere):
        leave_record(record)
    assert bench.precision.spread(one, made[0].data) == {
        "count": 3, "validation_loss": pytest.approx(0.2), "accuracy": pytest.approx(0.25)
    }  # fmt: skip
    few = bench.precision.spread(config.smoke(), made[0].data)
    assert few == {"count": 0, "validation_loss": None, "accuracy": None}


def test_precision_runs_each_block_twice_and_says_what_differs(bench, monkeypatch):
    asked = []

    def run_apart(cell, execution):
        asked.append((cell.run.block, cell.run.seed, cell.run.depth, execution.precision))
        low = execution.precision == "bfloat16"
        return made_record(cell, 3.5 - low / 4, 0.5 + low / 8), {}

    monkeypatch.setattr(bench.repeat, "run_apart", run_apart)
    text = bench.write("precision", bench.precision.run("smoke"))
    assert asked == [
        (block, 0, 1, name) for block in ("conv", "mixer", "transformer") for name in ("float32", "bfloat16")
    ]
    assert "float32: 3.5000 nats, 50.0%; bfloat16: 3.2500 nats, 62.5%" in text
    assert "over" not in text  # there are no seeds to compare with
    assert benchmarks.table("precision")["bfloat16 changes it by"].tolist() == 3 * ["-0.2500"]
