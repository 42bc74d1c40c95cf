"""Every figure of the book as a pure function of records, tables or pixels, in one visual language.

Book: chapters "Encodings", "Objective", "Smoke results" and "Results".
"""

from isonb.evidence.figures.curves import learning_curve, learning_curves, probe_curve, probes_by_layer
from isonb.evidence.figures.image_gpt import along_training, fine_tuning, palette, probes_by_objective, two_phases
from isonb.evidence.figures.pictures import images, reconstruction_by_block, reconstruction_grid, reconstructions
from isonb.evidence.figures.scatter import loss_accuracy
from isonb.evidence.figures.similarity import learned_tables, similarity, similarity_by_distance
from isonb.evidence.figures.untrained import gains, signs

__all__ = [
    "along_training",
    "fine_tuning",
    "gains",
    "images",
    "learned_tables",
    "learning_curve",
    "learning_curves",
    "loss_accuracy",
    "palette",
    "probe_curve",
    "probes_by_layer",
    "probes_by_objective",
    "reconstruction_by_block",
    "reconstruction_grid",
    "reconstructions",
    "signs",
    "similarity",
    "similarity_by_distance",
    "two_phases",
]
