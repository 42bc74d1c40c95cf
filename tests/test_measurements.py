"""Files of measurements from anywhere: what is of the right form is shown, all else is named in one sentence."""

import copy
import json
import os
import random

import numpy as np
import pytest

from isonb import records
from isonb.__main__ import main
from isonb.evidence import benchmarks, claims, figures, markup, measured, measurements, palette

ARRAYS = {
    "psnr_B": np.array([30.0, 31.0]),
    "colour_error_B": np.array([4.0, 5.0]),
    "original_BHWC": np.full((3, 4, 4, 3), 9, np.uint8),
    "quantised_BHWC": np.full((3, 4, 4, 3), 8, np.uint8),
}
MACHINE = {"processor": "A", "cores": 2, "threads": 1, "amx": True, "avx512_bf16": False, "torch": "2", "load": 0.5}
RATIO = {"median": 2.5, "least": 2.0, "greatest": 3.0, "processor_time": 2.25}
NETWORK = {"block": "conv", "depth": 3, "batch": 32}
BOTH = {"ours": 2, "peer": 3}
ROWS = {
    "steps": NETWORK | {"speed_up": {"auto": RATIO}, "loss_difference": {"auto": 1e-4}},
    "compiled": NETWORK | {"speed_up": RATIO, "first_step_seconds": 60.0},
    "curves": NETWORK | {"losses": {"auto": [5.5, 5.0], "plain": [5.5, 5.0]}},
    "forecast": NETWORK | {"images": 48, "predicted_seconds": 9.0, "measured_seconds": 12.0},
    "peers": NETWORK | {"library": "a 1", "heads": 1, "parameters_per_block": BOTH, "parameters": BOTH,
                        "outputs": {"ours": [3, 256], "peer": [1, 512]}, "speed_up": {"trainer": RATIO}},
    "profile": NETWORK | {"share_of_rate": 0.5, "shares": {"products": 1.0}},
    "processes": NETWORK | {"processes": 2, "efficiency": RATIO, "efficiency_processor_time": 0.9,
                            "efficiency_apart": 0.9, "loss_difference": 1e-7},
    "precision": NETWORK | {"encoding": "rff", "validation_loss": {"float32": 3.5, "bfloat16": 3.5},
                            "accuracy": {"float32": 0.5, "bfloat16": 0.5},
                            "seeds": {"count": 1, "validation_loss": None, "accuracy": None}},
    "probing": NETWORK | {"images": 9, "test_images": 9, "passes": {"ours": 2, "paper": 8},
                          "seconds": {"ours": 2.0, "paper": 8.0}, "accuracies": {"ours": [0.5], "paper": [0.5]}},
    "solvers": NETWORK | {"data": "cifar10", "train_images": 9, "test_images": 9,
                          "accuracies": {"adam": [0.5, 0.25], "lbfgs": [0.5, 0.25]}},
    "memory": {"kind": "mixer", "positions": 256, "batch": 8, "peak_bytes": 2**20},
    "equivariance": {"block": "conv", "change": "shift", "error": 1e-7},
    "palette": {"data": "photos", "colours": 512, "test_images": 2, "tokens": 16, "sub_pixels": 48},
    "palette-steps": NETWORK | {"is_causal": True, "batch": 32, "speed_up": RATIO,
                                "peak_bytes": {"palette": 2**20, "pix2vec": 2**21}},
    "repeat": {"run_id": "conv", "numbers": 100, "arrays": 5, "different": []},
    "faults": {"kind": "record", "tried": 10, "noticed": 9},
    "samples": NETWORK | {"images": 8, "speed_up": RATIO, "difference": 1e-15},
    "gpu": {"name": "A card", "rate": 1e15},
    "worlds": {"state": "complete", "world": "noise", "worlds": 10, "verdicts": {"C5": {"supported": 1}}},
}  # fmt: skip
ALL = {"rows": [], "machine": MACHINE}


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setenv("ISONB_RESULTS", str(tmp_path))
    (tmp_path / "benchmarks").mkdir()
    for part, row in ROWS.items():
        leave(tmp_path, part, [row])
    np.savez(tmp_path / "benchmarks" / "palette.npz", **ARRAYS)
    return tmp_path


def leave(results, part, rows, machine=MACHINE):
    path = results / "benchmarks" / f"{part}.json"
    path.write_text(json.dumps({"machine": machine, "rows": rows}))
    return path


def everything():
    """All that the book shows of measurements, as text."""
    shown = [markup.table(benchmarks.table(part)) for part in benchmarks.COLUMNS]
    shown += [benchmarks.machine(part) for part in ROWS]
    shown += [benchmarks.probing_in_words(), benchmarks.worlds_in_words(), figures.palette().caption]
    tables = benchmarks.memory_by_positions(), benchmarks.repeat(), benchmarks.faults(), benchmarks.worlds("complete")
    shown += map(markup.table, (*tables, palette.steps()))
    return shown


def test_every_part_that_the_book_reads_is_looked_at():
    assert set(benchmarks.COLUMNS) <= set(measured.ROWS) == {*ROWS, "large"}


def test_what_is_of_the_right_form_is_shown_without_a_fault(results):
    shown = "\n".join(everything())
    assert "cannot be read" not in shown
    assert claims.read_sets("smoke")[0].faults == ()
    assert "ratio 30.5 dB" in shown


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"7",
        b'"rows"',
        b"[" * 100_000,
        b'{"rows": null}',
        b'{"rows": [null]}',
        b'{"rows": {}, "machine": {}}',
        b"\xff\xfe{}",
        json.dumps(ALL | {"machine": None}).encode(),
        json.dumps(ALL | {"machine": MACHINE | {"processor": 7}}).encode(),
        json.dumps(ALL | {"rows": [{}]}).encode(),
        json.dumps(ALL | {"rows": [[]]}).encode(),
        json.dumps(ALL | {"rows": [ROWS["steps"] | {"depth": "3"}]}).encode(),
        json.dumps(ALL | {"rows": [ROWS["steps"] | {"depth": True}]}).encode(),
        json.dumps(ALL | {"rows": [ROWS["steps"] | {"block": "nobody's"}]}).encode(),
        json.dumps(ALL | {"rows": [ROWS["steps"] | {"speed_up": {"auto": RATIO | {"median": float("nan")}}}]}).encode(),
        json.dumps(ALL | {"rows": [ROWS["steps"]]}).replace("2.25", "1e999").encode(),
    ],
)
def test_a_file_of_another_form_is_named_and_the_rest_is_shown(results, content):
    path = results / "benchmarks" / "steps.json"
    path.write_bytes(content)
    with pytest.raises(records.RecordError, match=f"{path} cannot be read .*: run make bench BENCH=steps again"):
        measurements.rows("steps")
    shown = everything()
    faulty = [text for text in shown if "cannot be read" in text]
    assert faulty == [markup.table(benchmarks.table("steps")), benchmarks.machine("steps")]
    assert len(faulty[1].splitlines()) == 1


def _pipe(path):
    path.unlink()
    os.mkfifo(path)


def _folder(path):
    path.unlink()
    path.mkdir()


def _loop(path):
    path.unlink()
    path.symlink_to(path)


def _sparse(path):
    with path.open("wb") as file:
        file.truncate(2**40)


@pytest.mark.parametrize("put", [_pipe, _folder, _sparse])
def test_what_is_no_readable_file_is_named(results, put):
    put(results / "benchmarks" / "memory.json")
    [fault] = claims.read_sets("smoke")[0].faults
    assert "memory.json cannot be read" in fault
    assert "memory.json cannot be read" in markup.table(benchmarks.memory_by_positions())


def test_claims_names_each_damaged_file_goes_on_and_says_so_by_its_status(results, capsys):
    leave(results, "memory", [ROWS["memory"] | {"peak_bytes": -1}])
    leave(results, "equivariance", None)
    assert main(["claims"]) == 1
    text = capsys.readouterr().out
    assert [line.split()[1].rsplit("/", 1)[1] for line in text.splitlines() if line.startswith("Skipped: ")] == [
        "memory.json",
        "equivariance.json",
    ]
    assert "C35" in text  # the palette is judged


@pytest.mark.parametrize(
    ("part", "change", "cause"),
    [
        ("curves", {"losses": {"auto": [1.0, 2.0], "plain": [1.0]}}, "not of one length"),
        ("probing", {"accuracies": {"ours": [], "paper": []}}, "accuracies.ours"),
        ("probing", {"passes": {"ours": 0, "paper": 8}}, "passes.ours"),
        ("solvers", {"accuracies": {"adam": [0.5], "lbfgs": [0.5, 0.5]}}, "not of one length"),
        ("solvers", {"accuracies": {"adam": [1.5], "lbfgs": [0.5]}}, "accuracies.adam.0"),
        ("memory", {"positions": 0}, "positions"),
        ("memory", {"peak_bytes": 10**400}, "peak_bytes"),
        ("worlds", {"worlds": 0}, "worlds"),
        ("worlds", {"verdicts": {"C5": {"supported": 11}}}, "more verdicts than worlds"),
        ("worlds", {"verdicts": {"C5": {"supported": -1}}}, "verdicts.C5.supported"),
        ("forecast", {"measured_seconds": 0}, "measured_seconds"),
        ("peers", {"outputs": {"ours": [3], "peer": [1, 2]}}, "outputs.ours"),
        ("palette", {"test_images": "2"}, "test_images"),
    ],
)
def test_a_value_that_cannot_be_is_named_with_its_place(results, part, change, cause):
    path = leave(results, part, [ROWS[part] | change])
    with pytest.raises(records.RecordError) as fault:
        measurements.rows(part)
    assert str(fault.value).startswith(f"{path} cannot be read (")
    assert cause in str(fault.value)


@pytest.mark.parametrize(
    "change",
    [
        {"psnr_B": np.array([30.0])},
        {"psnr_B": np.array([30.0, np.nan])},
        {"psnr_B": np.array(["a", "b"])},
        {"colour_error_B": np.zeros((2, 2))},
        {"original_BHWC": np.zeros((3, 4, 4), np.uint8)},
        {"quantised_BHWC": np.zeros((3, 4, 4, 3))},
        {"quantised_BHWC": np.zeros((2, 4, 4, 3), np.uint8)},
        {"original_BHWC": np.zeros((0, 4, 4, 3), np.uint8), "quantised_BHWC": np.zeros((0, 4, 4, 3), np.uint8)},
    ],
)
def test_arrays_that_are_not_the_palettes_are_named_on_the_page_and_by_claims(results, change):
    np.savez(results / "benchmarks" / "palette.npz", **ARRAYS | change)
    assert "palette.npz cannot be read" in figures.palette().caption
    assert ["palette.npz cannot be read" in fault for fault in claims.read_sets("smoke")[0].faults] == [True]


def test_text_of_measurements_is_text_on_pages(results):
    leave(results, "solvers", [ROWS["solvers"] | {"data": "<b>|`x`"}], MACHINE | {"processor": "[a](javascript:b)"})
    assert "&#60;b&#62;&#124;&#96;x&#96;" in benchmarks.probing_in_words()
    assert "&#91;a&#93;(javascript&#58;b)" in benchmarks.machine("solvers")


def mutated(content, draw):
    """The JSON with one value replaced, removed or repeated somewhere."""
    content = copy.deepcopy(content)
    place, parents = content, []
    while isinstance(place, (dict, list)) and place:
        key = draw.choice([*place]) if isinstance(place, dict) else draw.randrange(len(place))
        parents.append((place, key))
        place = place[key]
    place, key = draw.choice(parents)
    kind = draw.choice(("replace", "remove", "repeat"))
    if kind == "replace":
        place[key] = draw.choice(
            [None, -1, 0, 7, 0.5, 2.5, 1e300, 10**400, True, "", "x", "<b>", [], [1], {}, {"a": 1}]
        )
    elif kind == "remove":
        del place[key]
    elif isinstance(place, list):
        place.append(copy.deepcopy(place[key]))
    return content


@pytest.mark.parametrize("part", ROWS)
def test_whatever_is_changed_in_a_file_is_shown_or_named(results, part):
    draw = random.Random(part)
    path = results / "benchmarks" / f"{part}.json"
    whole = json.loads(path.read_text())
    for _ in range(60):
        path.write_text(json.dumps(mutated(whole, draw)))
        shown = [text for text in everything_of(part) if "cannot be read" in text]
        try:
            measurements.rows(part)
        except records.RecordError as fault:
            assert shown
            assert "\n" not in str(fault)
        else:
            assert not shown


def everything_of(part):
    """What the book shows of one part, as text; the ledger's frames of measurements are made, too."""
    tables = [benchmarks.table(part)] if part in benchmarks.COLUMNS else []
    tables += [benchmarks.repeat()] * (part == "repeat") + [benchmarks.memory_by_positions()] * (part == "memory")
    tables += [benchmarks.worlds("complete"), benchmarks.worlds("under way")] * (part == "worlds")
    shown = [*map(markup.table, tables), benchmarks.machine(part)]
    shown += [benchmarks.probing_in_words()] * (part in ("probing", "solvers"))
    shown += [benchmarks.worlds_in_words()] * (part == "worlds")
    for claim in [claims.BY_ID[name] for name in ("C21", "C22", "C35")] if part in claims.MEASURED else []:
        claims.judge(claims.read("smoke"), [claim])
    return shown
