"""image-GPT's palette in this program: its claims of networks that read and predict it, and what it does to a network.

Losses do not appear here beside those of other networks: one softmax over 512 colours a pixel and three over 256 values
are different questions. What can be compared is what a probe, fine-tuning and a reconstruction give.

Book: chapter "image-GPT".
"""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from isonb.evidence import NOT_RUN, claims, metrics, selection, statistics
from isonb.evidence.ledger import image_gpt
from isonb.evidence.markup import Link, as_table, or_the_fault
from isonb.evidence.measurements import rows

ASKED = ("C28", "C29", "C30", "C31", "C32", "C33", "C34", "C36")  # C35 is about the palette itself
ACCURACIES = {
    "probe": "test_accuracy",
    "untrained": "untrained_accuracy",
    "fine-tuned": "finetune_accuracy",
    "from scratch": "scratch_accuracy",
}
INPUTS = {"x": "palette", "y": "pix2vec"}


def judged(t: metrics.Tables) -> pd.DataFrame:
    """image-GPT's claims by the rules of the ledger, of networks that read and predict a palette; one row for each."""
    findings = claims.as_rows(claims.judge(image_gpt.with_palette(t), [claims.BY_ID[name] for name in ASKED]))
    return pd.DataFrame([
        {
            "claim": row["id"],
            "statement": row["statement"],
            "verdict": row["verdict"],
            "value": "-" if row["value"] is None else f"{row['value']:+.3f}",
            "interval": "-" if None in (row["low"], row["high"]) else f"{row['low']:+.3f} to {row['high']:+.3f}",
            "of": row["unit"] or "-",
            "seeds": "-" if row["seeds"] is None else str(row["seeds"]),
        }
        for row in findings
    ])  # fmt: skip


def accuracies(t: metrics.Tables) -> pd.DataFrame:
    """What is read from networks with a palette and from their counterparts with pix2vec and 256 values.

    A row for each objective and input, with means over the seeds that both have: accuracies on test images.
    """
    return _side_by_side(t, lambda pairs, which: {
        name: "-" if (of := pairs[f"{column}_{which}"].astype(float)).isna().any() else f"{of.mean():.1%}"
        for name, column in ACCURACIES.items()
    })  # fmt: skip


def reconstructions(t: metrics.Tables) -> pd.DataFrame:
    """How far hidden test pixels are off, in 8-bit levels, and how many sub-pixels are within 8 of them.

    A row for each objective and input, and one for the palette alone: each hidden pixel in the colour nearest to it.
    """
    shown = _side_by_side(t, lambda pairs, which: _errors(pairs, "", which))
    for objective, pairs in image_gpt.beside_pix2vec(t).items():
        if len(pairs):
            alone = _linked(t, pairs, "x", _errors(pairs, "nearest_", "x"))
            shown.loc[len(shown)] = {"objective": objective, "input and output": "the palette alone"} | alone
    return shown.sort_values("objective", kind="stable", ignore_index=True)


def _errors(pairs: pd.DataFrame, prefix: str, which: str) -> dict[str, str]:
    absolute, near, colour = (
        pairs[f"{prefix}{name}_{which}"].astype(float).mean()
        for name in ("mean_absolute_error", "share_within_8", "colour_error")
    )
    return {"off by": f"{absolute:.1f} levels", "within 8 levels": f"{near:.1%}", "distance in RGB": f"{colour:.1f}"}


def _side_by_side(t: metrics.Tables, shown: Callable[[pd.DataFrame, str], dict[str, str]]) -> pd.DataFrame:
    rows_shown = []
    for objective, pairs in image_gpt.beside_pix2vec(t).items():
        if pairs.empty:
            rows_shown.append({"objective": objective, "input and output": NOT_RUN})
        for which, name in INPUTS.items() if len(pairs) else ():
            linked = _linked(t, pairs, which, shown(pairs, which))
            rows_shown.append({"objective": objective, "input and output": name} | linked)
    return pd.DataFrame(rows_shown).fillna("-")


def _linked(t: metrics.Tables, pairs: pd.DataFrame, which: str, numbers: dict[str, str]) -> dict[str, Link]:
    """The number of seeds and other numbers, each a link to the runs that they are of."""
    of = t.runs[t.runs["run_id"].isin(pairs[f"run_id_{which}"])]
    every = {"seeds": str(len(pairs))} | numbers
    return {name: selection.link(text, of, t.runs) for name, text in every.items()}


def in_words(t: metrics.Tables) -> str:
    """What the palette does to the probe beside pix2vec, a sentence for each objective, in Markdown."""
    sentences = []
    for objective, pairs in image_gpt.beside_pix2vec(t).items():
        if pairs.empty:
            sentences.append(f"Trained by {objective}: {NOT_RUN}.")
            continue
        points_SB = 100 * image_gpt.probe_difference_SB(t, pairs)
        if len(points_SB) < 2:
            sentences.append(
                f"Trained by {objective}, the probe reads {points_SB.mean():+.1f} points with the palette, of one "
                "seed: that says nothing of others."
            )
            continue
        low, high = statistics.crossed_interval(points_SB)
        reading = "better" if low > 0 else "worse" if high < 0 else "no differently, as far as these images can tell"
        sentences.append(
            f"Trained by {objective}, the probe reads {reading}: {points_SB.mean():+.1f} points ({low:+.1f} to "
            f"{high:+.1f}) over {len(points_SB)} seeds and {points_SB.shape[1]} test images."
        )
    return " ".join(sentences)


@or_the_fault(as_table)
def steps() -> pd.DataFrame:
    """A training step with the palette in and out against one with pix2vec and 256 values, measured in turns."""
    shown = [
        {
            "objective": "autoregressive" if row["is_causal"] else "BERT",
            "depth": row["depth"],
            "batch": row["batch"],
            "times as fast": "{median:.2f} ({least:.2f} to {greatest:.2f})".format(**row["speed_up"]),
            "share of the memory": f"{row['peak_bytes']['palette'] / row['peak_bytes']['pix2vec']:.2f}",
        }
        for row in rows("palette-steps")
    ]
    return pd.DataFrame(shown or [{"objective": NOT_RUN}])
