"""What `make bench` measured, as tables: speed of a training step, its parts, several processes, and memory.

Only ratios are shown beside a machine's name: contestants took turns, so what slowed one slowed the others.

Book: chapter "Training".
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import scipy.stats

from isonb import records
from isonb.evidence.statistics import LEVEL, Interval

NOT_RUN = "not run"
MEBIBYTE = 2**20


def read(part: str) -> dict[str, Any]:
    """One part's file: `machine`, `seconds` and `rows`; empty where it has not been measured.

    Raises `RecordError` for a file that cannot be read.
    """
    path = records.results_folder("benchmarks") / f"{part}.json"
    if not path.exists():
        return {}
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise records.RecordError(f"{path} cannot be read ({error}): run make bench again.") from None


def rows(part: str) -> list[dict[str, Any]]:
    """The measured rows of a part, none where it has not been run; rows that were skipped are left out."""
    return [row for row in read(part).get("rows", []) if "skipped" not in row]


def machine(part: str) -> str:
    """One sentence about the machine that measured a part."""
    about = read(part).get("machine")
    if about is None:
        return f"{part}: {NOT_RUN}"
    units = " and ".join(name for name in ("amx", "avx512_bf16") if about[name]) or "no bfloat16 units"
    return (
        f"Measured on {about['processor']} with {units}, {about['threads']} of {about['cores']} cores, "
        f"torch {about['torch']}; load average {about['load']:.1f} at the start."
    )


def _ratio(value: dict[str, float] | None) -> str:
    return f"{value['median']:.1f} ({value['least']:.1f} to {value['greatest']:.1f})" if value else NOT_RUN


def speed() -> pd.DataFrame:
    """How many times as many images a second as the plain form: median of the rounds, least and greatest in brackets.

    `loss differs by` is the largest difference between the two losses of a step, in nats.
    """
    table = [
        {
            "block": row["block"],
            "size": row["depth"],
            "batch": row["batch"],
            "ours": _ratio(row["speed_up"]["auto"]),
            "in processor time": f"{row['speed_up']['auto']['processor_time']:.1f}",
            "ours in float32": _ratio(row["speed_up"].get("float32")),
            "loss differs by": f"{row['loss_difference']['auto']:.0e}",
        }
        for row in (*rows("steps"), *rows("large"))
    ]
    return pd.DataFrame(table or [{"block": NOT_RUN}])


def compiled() -> pd.DataFrame:
    """How many times as many images a second with torch.compile, and the seconds until its first step is done."""
    table = [
        {
            "block": row["block"],
            "size": row["depth"],
            "batch": row["batch"],
            "compiled": _ratio(row["speed_up"]),
            "first step": f"{row['first_step_seconds']:.0f} s",
        }
        for row in rows("compiled")
    ]
    return pd.DataFrame(table or [{"block": NOT_RUN}])


def curves() -> pd.DataFrame:
    """The loss in nats after the same steps of the trainer and of the plain form, and how far they came apart.

    The last column is how much a loss moves from one batch to the next, in the median.
    """
    table = []
    for row in rows("curves"):
        ours, plain = (np.array(row["losses"][name]) for name in ("auto", "plain"))
        table.append({
            "block": row["block"],
            "steps": len(ours),
            "loss at first": f"{ours[0]:.3f}",
            "ours at last": f"{ours[-1]:.3f}",
            "plain at last": f"{plain[-1]:.3f}",
            "at most apart": f"{np.abs(ours - plain).max():.3f}",
            "from batch to batch": f"{np.median(np.abs(np.diff(plain))):.3f}",
        })  # fmt: skip
    return pd.DataFrame(table or [{"block": NOT_RUN}])


def forecasts() -> pd.DataFrame:
    """Seconds of training that `estimate` predicted, those that it took, and the error."""
    table = [
        {
            "block": row["block"],
            "size": row["depth"],
            "images": f"{row['images']:,}",
            "predicted": f"{row['predicted_seconds']:.0f} s",
            "measured": f"{row['measured_seconds']:.0f} s",
            "error": f"{row['predicted_seconds'] / row['measured_seconds'] - 1:+.0%}",
        }
        for row in rows("forecast")
    ]
    return pd.DataFrame(table or [{"block": NOT_RUN}])


def peers() -> pd.DataFrame:
    """Our training steps against those of other libraries' networks of equal size: how many times as many images.

    `same objective` is the trainer's with the library's own objective, `same outputs` our blocks with its outputs too.
    """
    table = []
    for row in rows("peers"):
        is_mixer = row["block"] == "mixer"
        steps = {"same objective": "autoregressive", "same outputs": "palette", "our BERT step": "trainer"}
        table.append({
            "library": row["library"],
            "heads": "none" if is_mixer else row.get("heads", 1),
            "size": row["depth"],
            **{name: _ratio(row["speed_up"].get("trainer" if is_mixer else step)) for name, step in steps.items()},
            "their network": _size(row, "peer"),
            "our network": _size(row, "ours"),
        })  # fmt: skip
    return pd.DataFrame(table or [{"library": NOT_RUN}])


def _size(row: dict[str, Any], whose: str) -> str:
    if "outputs" not in row:
        return NOT_RUN
    block, whole = (row[name][whose] for name in ("parameters_per_block", "parameters"))
    parts, values = row["outputs"][whose]
    return f"{block:,} parameters a block, {whole:,} in all; {parts} x {values} values a pixel"


def shares() -> pd.DataFrame:
    """Where a step's time goes, and what part of the machine's measured matrix product rate it reaches."""
    table = [
        {
            "block": row["block"],
            "size": row["depth"],
            "share of the product rate": f"{row['share_of_rate']:.0%}",
            "time goes to": ", ".join(f"{name} {share:.0%}" for name, share in list(row["shares"].items())[:4]),
        }
        for row in rows("profile")
    ]
    return pd.DataFrame(table or [{"block": NOT_RUN}])


def efficiency() -> pd.DataFrame:
    """Images a second of two processes, over twice those of one."""
    table = [
        {
            "block": row["block"],
            "size": row["depth"],
            "global batch": row["batch"],
            "processes": row["processes"],
            "efficiency": "{median:.2f} ({least:.2f} to {greatest:.2f})".format(**row["efficiency"]),
            "in processor time": f"{row['efficiency_processor_time']:.2f}",
            "two that share nothing": f"{row['efficiency_apart']:.2f}",
            "loss differs by": f"{row['loss_difference']:.0e}",
        }
        for row in rows("processes")
    ]
    return pd.DataFrame(table or [{"block": NOT_RUN}])


def memory() -> pd.DataFrame:
    """One row per measured training step: `kind`, `positions`, `batch`, `peak_bytes`. Empty where none was measured."""
    return pd.DataFrame(rows("memory"))


def memory_by_positions() -> pd.DataFrame:
    """Peak MiB of a training step by number of positions, and the slope of its logarithm against theirs."""
    found = memory()
    if found.empty:
        return pd.DataFrame([{"kind": NOT_RUN}])
    table = []
    for (kind, batch), part in found.groupby(["kind", "batch"], sort=False):
        sizes = {f"{row.positions} positions": f"{row.peak_bytes / MEBIBYTE:.0f} MiB" for row in part.itertuples()}
        value = memory_slope(part)[0]
        table.append({"kind": kind, "batch": batch, **sizes, "slope": f"{value:.2f}"})
    return pd.DataFrame(table)


def memory_slope(part: pd.DataFrame, level: float = LEVEL) -> tuple[float, Interval]:
    """The slope of log peak memory against log positions, one line for each batch, all of one slope; and its interval.

    Least squares; Student's t with as many degrees of freedom as measurements beyond the slope and the lines' heights.
    """
    x, y = np.log(part["positions"].to_numpy(float)), np.log(part["peak_bytes"].to_numpy(float))
    batch = part["batch"].to_numpy()
    x, y = (values - pd.Series(values).groupby(batch).transform("mean").to_numpy() for values in (x, y))
    slope = float(x @ y / (x @ x))
    freedom = len(x) - len(np.unique(batch)) - 1
    if freedom < 1:
        return slope, (-np.inf, np.inf)
    error = np.sqrt(np.sum((y - slope * x) ** 2) / freedom / (x @ x))
    half = float(scipy.stats.t.ppf((1 + level) / 2, freedom) * error)
    return slope, (slope - half, slope + half)


def equivariance() -> pd.DataFrame:
    """One row per block and change of order: the relative `error`. Empty where none was measured."""
    return pd.DataFrame(rows("equivariance"))


def palette() -> pd.DataFrame:
    """One row per test image in the palette's colours: `psnr` in dB, `colour_error`, `tokens` and `sub_pixels`.

    Empty where no palette was fitted.
    """
    found = [
        pd.DataFrame({"psnr": arrays["psnr_B"], "colour_error": arrays["colour_error_B"]}).assign(
            tokens=row["tokens"], sub_pixels=row["sub_pixels"], data=row["data"], colours=row["colours"]
        )
        for row in rows("palette")
        for arrays in [palette_arrays()]
    ]
    return pd.concat(found) if found else pd.DataFrame()


def palette_arrays() -> dict[str, np.ndarray]:
    """What is kept beside the palette's row: its colours and test images in them; empty where none was fitted."""
    path = records.results_folder("benchmarks") / "palette.json"
    return records.read_arrays(path) if path.exists() else {}


def probing() -> pd.DataFrame:
    """Passes of images through the network, and processor seconds: all layers at once, and the plain procedure."""
    table = []
    for row in rows("probing"):
        for what, shown, spec in (("passes", "passes", ",d"), ("seconds", "processor seconds", ".0f")):
            ours, paper = (row[what][whose] for whose in ("ours", "paper"))
            named = {"network": f"{row['block']}, size {row['depth']}", "of": shown, "at once": f"{ours:{spec}}"}
            table.append(named | {"plainly": f"{paper:{spec}}", "times as many": f"{paper / ours:.0f}"})
    return pd.DataFrame(table or [{"network": NOT_RUN}])


def solvers() -> pd.DataFrame:
    """Test accuracy by layer of classifiers that Adam found, and L-BFGS; the difference in points."""
    table = [
        {
            "network": f"{row['block']}, size {row['depth']}",
            "layer": layer,
            "Adam": f"{adam:.1%}",
            "L-BFGS": f"{lbfgs:.1%}",
            "differ by": f"{100 * abs(adam - lbfgs):.1f} points",
        }
        for row in rows("solvers")
        for layer, (adam, lbfgs) in enumerate(zip(row["accuracies"]["adam"], row["accuracies"]["lbfgs"], strict=True))
    ]
    return pd.DataFrame(table or [{"network": NOT_RUN}])


def probing_in_words() -> str:
    """What both tables come to, in a sentence or two."""
    said = []
    for row in rows("probing"):
        passes, seconds = (row[what]["paper"] / row[what]["ours"] for what in ("passes", "seconds"))
        apart = max(abs(a - b) for a, b in zip(row["accuracies"]["ours"], row["accuracies"]["paper"], strict=True))
        differ = (
            f"no layer's accuracy differs by more than {100 * apart:.1f} points" if apart else "all accuracies agree"
        )
        said.append(
            f"At size {row['depth']}, for {row['images']} crops of the photographs, that is {passes:.0f} times fewer "
            f"passes and {seconds:.0f} times less processor time, as one epoch of each layer tells; on a small "
            f"network, where both were carried out in full, {differ} ({row['test_images']} test crops)."
        )
    for row in rows("solvers"):
        adam, lbfgs = row["accuracies"]["adam"], row["accuracies"]["lbfgs"]
        apart = max(abs(a - b) for a, b in zip(adam, lbfgs, strict=True))
        said.append(
            f"Adam and L-BFGS, on {row['train_images']:,} training images of {row['data']}, are at most "
            f"{100 * apart:.1f} points apart on {row['test_images']:,} test images."
        )
    return " ".join(said) or NOT_RUN
