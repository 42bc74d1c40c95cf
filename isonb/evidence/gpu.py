"""What `make gpu` found on a GPU, as a table and in words; "not yet measured" where it has not run.

Book: chapter "Training".
"""

from __future__ import annotations

import pandas as pd

from isonb import disk
from isonb.evidence.markup import as_table, escaped, or_the_fault
from isonb.evidence.measurements import rows

NOT_MEASURED = "not yet measured"


@or_the_fault(escaped)
def in_words() -> str:
    """Which GPU was measured, how much it multiplies, and how many of its checks hold, in a sentence of Markdown."""
    measured = rows("gpu")
    if not (named := [row for row in measured if row["name"]]):
        return f"On a GPU: {NOT_MEASURED}."
    checks = [row for row in measured if row["check"]]
    failed = ", ".join(escaped(row["check"]) for row in checks if not row["holds"])
    return (
        f"Measured on {escaped(named[0]['name'])}, which reaches {named[0]['rate'] / 1e12:.0f} tera operations a "
        f"second in one large product; {sum(row['holds'] for row in checks)} of {len(checks)} checks hold"
        f"{f', but not these: {failed}' if failed else ''}."
    )


@or_the_fault(as_table)
def table() -> pd.DataFrame:
    """One row per network on a GPU: images a second, share of its product rate, and how many times those of others."""
    measured = rows("gpu")
    rate = next((row["rate"] for row in measured if row["name"]), None)
    shown = []
    for row in measured:
        if row["network"] and rate:
            speeds = row["images_per_second"]
            others = {f"times {name}": f"{speeds['ours'] / of:.1f}" for name, of in speeds.items() if name != "ours"}
            shown.append(
                {
                    "network": row["network"],
                    "size": row["depth"],
                    "batch": row["batch"],
                    "images a second": f"{speeds['ours']:,.0f}",
                    "tera operations a second": f"{row['operations_per_second'] / 1e12:.0f}",
                    "share of the product rate": f"{row['operations_per_second'] / rate:.0%}",
                    "peak memory": f"{row['peak_bytes'] / disk.MEBIBYTE:.0f} MiB" if row["peak_bytes"] else "-",
                    **others,
                }
            )
    return pd.DataFrame(shown or [{"network": NOT_MEASURED}]).fillna("-")
