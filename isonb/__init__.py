"""A reproduction of *On the Bias Against Inductive Biases* (Cazenavette & Lucey, 2021).

The package has two halves that meet in small result files:

- the compute half (`isonb.models`, `isonb.training`) trains networks with torch and writes records;
- the reading half (`isonb.evidence`) turns records into tables, figures and verdicts, without torch.

Tensor names carry their axes: B images, N positions, C colour channels, D width, V pixel values, M masked
positions, L layers, F features, K classes; H and W the rows and columns of a picture (`BHWC`); in attention H heads
of E channels each (`BHNE`). `x_BND` is a batch of N tokens of D channels.
"""

import importlib
import os
import sys
from typing import Any

from isonb import places as places  # folders are settled before a program can leave the one it was started in

# Before torch is loaded: threads that wait for each other sleep instead of spinning, which on a busy machine takes
# the cores from those they wait for.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# Before nbformat is loaded: a grammar of web addresses, which no notebook has a use for, would take two seconds.
sys.modules.setdefault("rfc3987_syntax", None)

__version__ = "0.1.0"


def load(kept: str | os.PathLike[str]) -> Any:
    """The trained network in a file, a run's folder or a run by its name (`isonb.training.keeping.load`)."""
    return importlib.import_module("isonb.training.keeping").load(kept)  # here, as torch takes seconds to import
