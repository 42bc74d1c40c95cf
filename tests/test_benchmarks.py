"""What the book reads of the benchmarks: slopes by hand, ratios as measured, and "not run" where nothing was."""

import json

import numpy as np
import pandas as pd
import pytest

from isonb import records
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
    write("steps", [{"block": "conv", "depth": 3, "batch": 32, "speed_up": {"auto": ratio},
                     "loss_difference": {"auto": 1e-4}}])  # fmt: skip
    [row] = benchmarks.speed().to_dict("records")
    assert row["ours"] == "2.5 (2.0 to 3.0)"
    assert row["in processor time"] == "9.0"
    assert row["ours in float32"] == "not run"
    assert benchmarks.machine("steps") == (
        "Measured on A processor with amx, 1 of 2 cores, torch 2.0; load average 0.2 at the start."
    )


def test_a_compiled_step_is_shown_with_the_seconds_to_its_first(write):
    ratio = {"median": 1.04, "least": 0.9, "greatest": 1.26, "processor_time": 1.0}
    write("compiled", [{"block": "conv", "depth": 1, "batch": 32, "speed_up": ratio, "first_step_seconds": 61.4}])
    [row] = benchmarks.compiled().to_dict("records")
    assert row == {"block": "conv", "size": 1, "batch": 32, "compiled": "1.0 (0.9 to 1.3)", "first step": "61 s"}


def test_two_loss_curves_are_compared_step_by_step(write):
    losses = {"auto": [5.5, 5.1, 4.75], "plain": [5.5, 5.0, 4.7]}
    write("curves", [{"block": "conv", "losses": losses}])
    [row] = benchmarks.curves().to_dict("records")
    assert row == {"block": "conv", "steps": 3, "loss at first": "5.500", "ours at last": "4.750",
                   "plain at last": "4.700", "at most apart": "0.100", "from batch to batch": "0.400"}  # fmt: skip


def test_a_forecast_is_shown_with_its_error(write):
    write("forecast", [{"block": "mixer", "depth": 1, "images": 4800, "predicted_seconds": 90.0,
                        "measured_seconds": 120.0}])  # fmt: skip
    [row] = benchmarks.forecasts().to_dict("records")
    assert row == {"block": "mixer", "size": 1, "images": "4,800", "predicted": "90 s", "measured": "120 s",
                   "error": "-25%"}  # fmt: skip


def test_a_library_that_was_skipped_has_no_row(write):
    write("peers", [{"skipped": "transformers is not installed"}])
    assert benchmarks.peers().to_dict("records") == [{"library": "not run"}]


def test_a_library_without_a_task_of_its_own_says_so(write):
    ratio = {"median": 1.5, "least": 1.0, "greatest": 2.0, "processor_time": 1.25}
    row = {"library": "a", "depth": 1, "parameters_per_block": {"peer": 1000, "ours": 2000}}
    write("peers", [row | {"speed_up": {"trainer": ratio}}, row | {"speed_up": {"trainer": ratio, "same task": ratio}}])
    assert benchmarks.peers()["our blocks, their task"].tolist() == ["has none", "1.5 (1.0 to 2.0)"]


def test_what_was_not_measured_reads_not_run(write):
    tables = (benchmarks.speed, benchmarks.curves, benchmarks.peers, benchmarks.shares, benchmarks.efficiency)
    for table in (*tables, benchmarks.compiled, benchmarks.forecasts):
        assert table().iloc[0, 0] == "not run"
    assert benchmarks.memory().empty
    assert benchmarks.memory_by_positions().iloc[0, 0] == "not run"
    assert benchmarks.machine("steps") == "steps: not run"


def test_a_damaged_file_is_named(write):
    path = write("steps", [])
    path.write_text("{")
    with pytest.raises(records.RecordError, match=rf"{path} cannot be read .*: run make bench again\."):
        benchmarks.speed()


def test_what_probing_saves_is_told_as_ratios_and_what_it_changes_as_points(write):
    write("probing", [{"block": "conv", "depth": 6, "passes": {"ours": 200, "paper": 84_000},
                       "seconds": {"ours": 4.0, "paper": 300.0},
                       "accuracies": {"ours": [0.5, 0.25], "paper": [0.5, 0.26]}}])  # fmt: skip
    write("solvers", [{"block": "conv", "depth": 1, "data": "cifar10", "train_images": 3600, "test_images": 1000,
                       "accuracies": {"adam": [0.25, 0.4], "lbfgs": [0.25, 0.407]}}])  # fmt: skip
    assert benchmarks.probing().to_dict("records") == [
        {"network": "conv, size 6", "of": "passes", "at once": "200", "paper's procedure": "84,000",
         "times as many": "420"},
        {"network": "conv, size 6", "of": "processor seconds", "at once": "4", "paper's procedure": "300",
         "times as many": "75"},
    ]  # fmt: skip
    assert benchmarks.solvers()["differ by"].tolist() == ["0.0 points", "0.7 points"]
    said = benchmarks.probing_in_words()
    assert "420 times fewer passes and 75 times less processor time" in said and "by more than 1.0 points" in said
    assert "3,600 training images of cifar10, are at most 0.7 points apart on 1,000 test images." in said


def test_accuracies_that_are_the_same_are_called_so(write):
    same = {"ours": [0.5, 0.25], "paper": [0.5, 0.25]}
    counts = {"ours": 1, "paper": 2}
    write("probing", [{"block": "conv", "depth": 1, "passes": counts, "seconds": counts, "accuracies": same}])
    assert benchmarks.probing_in_words().endswith("where both were carried out in full, all accuracies agree.")


def test_probing_that_was_not_measured_reads_not_run(write):
    assert [table().iloc[0, 0] for table in (benchmarks.probing, benchmarks.solvers)] == ["not run"] * 2
    assert benchmarks.probing_in_words() == "not run"
