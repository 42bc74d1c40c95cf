"""Every figure of the book as a pure function of records, tables or pixels, in one visual language.

Book: every chapter with a figure.
"""

from isonb.evidence.figures.among import among
from isonb.evidence.figures.completions import by_network as completed_by_network
from isonb.evidence.figures.completions import of_cell as completed
from isonb.evidence.figures.curves import learning_curve, learning_curves, probe_curve, probes_by_layer
from isonb.evidence.figures.diagrams import addition, cell, network, probe, step
from isonb.evidence.figures.drawings import groups, learned_positions, positions, reach, symmetries
from isonb.evidence.figures.gap_bars import gap_bars
from isonb.evidence.figures.image_gpt import along_training, fine_tuning, palette, probes_by_objective, two_phases
from isonb.evidence.figures.pictures import (
    errors_by_block,
    images,
    reconstruction_by_block,
    reconstruction_grid,
    reconstructions,
)
from isonb.evidence.figures.scatter import loss_accuracy, loss_accuracy_by_size
from isonb.evidence.figures.similarity import learned_tables, similarity, similarity_by_distance, trained_by_sigma
from isonb.evidence.figures.untrained import gains, signs

__all__ = [
    "addition",
    "along_training",
    "among",
    "cell",
    "completed",
    "completed_by_network",
    "errors_by_block",
    "fine_tuning",
    "gains",
    "gap_bars",
    "groups",
    "images",
    "learned_positions",
    "learned_tables",
    "learning_curve",
    "learning_curves",
    "loss_accuracy",
    "loss_accuracy_by_size",
    "network",
    "palette",
    "positions",
    "probe",
    "probe_curve",
    "probes_by_layer",
    "probes_by_objective",
    "reach",
    "reconstruction_by_block",
    "reconstruction_grid",
    "reconstructions",
    "signs",
    "similarity",
    "similarity_by_distance",
    "step",
    "symmetries",
    "trained_by_sigma",
    "two_phases",
]
