"""What a record says: the schema of a result file, and what must hold between its numbers.

A number that cannot be, such as a loss below zero or an accuracy that is not that of the layer that was chosen, is
refused when a record is made and when it is read.

Book: chapter "Run it yourself".
"""

from __future__ import annotations

from typing import Annotated

import pydantic

from isonb.config import VERSION, Cell, RunConfig
from isonb.numerics import NUMERICS
from isonb.validation import Frozen

SEALED = 4  # the first version whose records carry checksums

Share = Annotated[float, pydantic.Field(ge=0, le=1)]
NotNegative = Annotated[float, pydantic.Field(ge=0)]
Seconds = Annotated[float, pydantic.Field(ge=0, le=1e9)]  # of thirty years at most
Correlation = Annotated[float, pydantic.Field(ge=-1, le=1)]
Count = Annotated[int, pydantic.Field(ge=0)]
Positive = Annotated[int, pydantic.Field(ge=1)]
SHA256 = Annotated[str, pydantic.Field(pattern="^[0-9a-f]{64}$")]


class Data(Frozen):
    """The images a run really read.

    `name` is the source's own: that of the data set or of the folder. `official` says whether the files are the
    published ones, by their checksums; None where nothing is published. `remarks` name what makes a number doubtful, as
    images that are both in training and in test.
    """

    name: str
    classes: Annotated[list[str], pydantic.Field(min_length=2)]
    train: Positive
    validation: Positive
    test: Positive
    sha256: dict[str, str]
    official: bool | None = None
    remarks: list[str] = pydantic.Field(default=[])


class Environment(Frozen):
    """Where and how the run computed.

    `earlier_threads` are the other numbers of threads on which steps of a training were taken that was stopped and
    went on, as far as its checkpoints knew: a sum may round otherwise on each.
    """

    isonb: str
    python: str
    torch: str
    numpy: str
    platform: str
    device: str
    processes: Positive
    threads: Positive
    earlier_threads: list[Positive] = pydantic.Field(default=[])
    precision: str
    compiled: bool
    git_revision: str | None
    git_dirty: bool | None


class Counts(Frozen):
    """Operations and parameters, counted from the network itself."""

    parameters: Positive
    parameters_per_block: Positive
    multiply_accumulates: Positive
    multiply_accumulates_per_block: Positive

    def fit(self, blocks: int) -> bool:
        """Whether a network with so many blocks, and maps before and behind them, can have these counts."""
        return (
            self.parameters > blocks * self.parameters_per_block
            and self.multiply_accumulates > blocks * self.multiply_accumulates_per_block
        )


class Baselines(Frozen):
    """Losses that need no network, in the same unit, on the same validation images and masks.

    `linear_filter` is that of a linear map from the 5x5 window around a masked pixel, where it has been fitted. Of a
    run that predicts a palette the unit is its own, too: `channel_marginal` is of the histogram of its colours.
    """

    uniform: NotNegative
    channel_marginal: NotNegative
    neighbour_mean: NotNegative
    linear_filter: NotNegative | None = None


class Epoch(Frozen):
    """One row of the learning curve; epoch 0 is before any step. Losses in the unit of the run's objective."""

    epoch: Count
    learning_rate: NotNegative
    train_loss: NotNegative | None
    validation_loss: NotNegative
    seconds: Seconds
    images: Count


class Training(Frozen):
    """The pre-training run. `seconds` and `peak_memory_bytes` are of the training alone.

    Losses are means over masked sub-pixels: nats, or with the objective 'mse' squared errors of values in [-1, 1].
    """

    curve: list[Epoch]
    validation_loss: NotNegative
    test_loss: NotNegative
    steps: Count
    seconds: Seconds
    peak_memory_bytes: Positive | None

    @pydantic.model_validator(mode="after")
    def _refuse_a_curve_that_is_not_the_runs(self) -> Training:
        if [row.epoch for row in self.curve] != [*range(len(self.curve))] or len(self.curve) < 2:
            raise ValueError("the epochs of the learning curve are not 0, 1 and so on")
        if any((row.train_loss is None) != (row.epoch == 0) for row in self.curve):
            raise ValueError("a training loss is missing from the learning curve, or stands at epoch 0")
        if self.validation_loss != self.curve[-1].validation_loss:
            raise ValueError("validation_loss is not that of the last epoch")
        return self


class Reconstruction(Frozen):
    """How well masked test pixels are filled in by the predicted value of each sub-pixel, 0 to 255 a channel."""

    mean_absolute_error: Annotated[float, pydantic.Field(ge=0, le=255)]
    share_within_8: Share
    colour_error: Annotated[float, pydantic.Field(ge=0, le=255 * 3**0.5)]


class Similarity(Frozen):
    """What an encoding's 256 rows of one colour channel keep of the distance of their values, by cosine similarity.

    `kept`: rank correlation of similarity and -distance over all pairs; `kept_off_band`: over those more than 8 levels
    apart; `half_width`: levels at which the mean similarity is below 1/2, None where it never is; `rank`: singular
    directions that hold 99 % of the energy.
    """

    kept: Correlation
    kept_off_band: Correlation
    half_width: Annotated[int, pydantic.Field(ge=0, le=255)] | None
    rank: Annotated[int, pydantic.Field(ge=0, le=256)]


ByChannel = Annotated[list[Similarity], pydantic.Field(min_length=3, max_length=3)]


class Learned(Frozen):
    """The encoding before and after training, each with a row for red, green and blue."""

    before: ByChannel
    after: ByChannel


class Palette(Frozen):
    """What a palette keeps of the images, and what the table of its colours keeps of their distances.

    `nearest` has the errors of masked test sub-pixels that are filled with the colour nearest to the true one, which
    no prediction of the palette can beat by much. `before` and `after` training: rank correlation of the cosine
    similarity of two colours' vectors with -distance over all pairs; None where the palette is predicted and not read.
    """

    nearest: Reconstruction
    before: Correlation | None = None
    after: Correlation | None = None


class Layer(Frozen):
    """The linear probe of one layer; layer 0 is the encoding. Accuracies are shares in [0, 1].

    `pixel_accuracy` is the share of scored test sub-pixels that a linear map from the layer hits within 8 levels.
    """

    layer: Count
    train_accuracy: Share
    validation_accuracy: Share
    test_accuracy: Share
    pixel_accuracy: Share | None = None


class Probes(Frozen):
    """The linear probes of every layer and the layer that the configured split chose.

    `penalties` has the L2 penalty of each layer that is best on validation, where it was chosen.
    """

    layers: list[Layer]
    best_layer: Count
    test_accuracy: Share
    seconds: Seconds
    penalties: list[NotNegative] | None = None

    @pydantic.model_validator(mode="after")
    def _refuse_an_accuracy_that_is_not_the_chosen_layers(self) -> Probes:
        if [layer.layer for layer in self.layers] != [*range(len(self.layers))]:
            raise ValueError("the probed layers are not 0, 1 and so on")
        if self.best_layer >= len(self.layers) or self.test_accuracy != self.layers[self.best_layer].test_accuracy:
            raise ValueError("test_accuracy is not that of the chosen layer")
        if self.penalties is not None and len(self.penalties) != len(self.layers):
            raise ValueError("there is not one penalty for each layer")
        return self


class ProbedEpoch(Probes):
    """The same of the network as it was at the close of an epoch, whose loss is in the learning curve."""

    epoch: Positive


class Probe(Probes):
    """The probes of the finished network, and of its untrained twin: the same network with its initial weights.

    `along`, where it was asked for, has those of every epoch, the last included. `seconds` are of the last probes
    alone. Records of versions 1 and 2 have no twin until `isonb complete` has added it. `data` are the images that they
    are on, where these are others than those of pre-training.
    """

    chance: Share
    protocol: str
    along: list[ProbedEpoch] = pydantic.Field(default=[])
    untrained: Probes | None = None
    data: Data | None = None


class OtherProbe(Frozen):
    """The probes of a further protocol, of the finished network and of its untrained twin; None where they are missing.

    `name`: "grid4", features pooled over a 4x4 grid ("mean" where the cell's own are); "l2" and "grid4 l2", the
    protocols with the L2 penalty of each layer chosen on validation.
    """

    name: str
    protocol: str
    trained: Probes | None = None
    untrained: Probes | None = None


class Finetuned(Frozen):
    """Test accuracy of the whole network trained to name the classes, after the epoch that is best on validation.

    `curve` has the validation accuracy after every epoch, the first included; the same three of the same network
    trained alike from its initial weights are those from scratch. `seconds` are of both. `data` are the images that
    they are on, where these are others than those of pre-training.
    """

    accuracy: Share
    epoch: Positive
    curve: list[Share]
    scratch_accuracy: Share
    scratch_epoch: Positive
    scratch_curve: list[Share]
    seconds: Seconds
    protocol: str
    data: Data | None = None

    @pydantic.model_validator(mode="after")
    def _refuse_an_epoch_that_was_not_run(self) -> Finetuned:
        if self.epoch > len(self.curve) or self.scratch_epoch > len(self.scratch_curve):
            raise ValueError("the best epoch of fine-tuning is none of its epochs")
        return self


class Weights(Frozen):
    """The final weights, which are kept beside the checkpoints: the file's name, size in bytes and SHA-256."""

    file: str
    size: Positive
    sha256: SHA256


class Shared(Frozen):
    """What a copy of a network's weights in bfloat16 is of: the study of the run, and the SHA-256 of the weights' file.

    `validation_loss` is the copy's, in the run's unit; that of the weights themselves stands in the record.
    """

    study: str
    of: SHA256
    validation_loss: NotNegative


class Checksums(Frozen):
    """What ties a record to the files beside it, and shows that none of the three has changed: SHA-256 of each.

    `record` is of the record's own numbers and words; `notebook` is None where the cell was run by no runner.
    """

    record: SHA256
    arrays: SHA256
    notebook: SHA256 | None = None


class Record(Frozen):
    """One finished cell. See each part for units; `numerics` is the number of `isonb.numerics` that it was made under.

    `encoding` is None where a palette is read, whose colours have no order; `palette` where there is no palette.
    Records of every earlier version can be read. `completed` says where those parts were computed that a later version
    has added, where it has.
    """

    schema_version: int = pydantic.Field(default=VERSION, ge=1)
    run_id: str
    cell: Cell
    numerics: int = NUMERICS
    data: Data
    environment: Environment
    counts: Counts
    baselines: Baselines
    training: Training
    reconstruction: Reconstruction
    encoding: Learned | None
    palette: Palette | None = None
    probe: Probe
    other_probes: list[OtherProbe] = pydantic.Field(default=[])
    finetune: Finetuned | None = None
    weights: Weights | None = None
    completed: Environment | None = None
    checksums: Checksums | None = None

    @pydantic.model_validator(mode="after")
    def _refuse_parts_of_another_run(self) -> Record:
        run = self.cell.run
        if self.run_id != run.run_id:
            raise ValueError(f"run_id is {self.run_id!r}, but its settings are those of {run.run_id}")
        if self.training.curve[-1].epoch != run.epochs:
            raise ValueError(f"its learning curve has {self.training.curve[-1].epoch} of {run.epochs} epochs")
        per_epoch = -(-self.data.train // run.batch_size)
        if self.training.steps != run.epochs * per_epoch:
            raise ValueError(f"it took {self.training.steps} steps, not {per_epoch} in each of {run.epochs} epochs")
        if any(row.images != (self.data.train if row.epoch else 0) for row in self.training.curve):
            raise ValueError(f"an epoch of its learning curve has not all {self.data.train} training images")
        if not self.counts.fit(run.depth):
            raise ValueError(f"its counts are not those of a network of {run.depth} blocks")
        if any(len(probes.layers) != run.depth + 1 for probes in self.every_probe()):
            raise ValueError(f"it has not one probe for each of {run.depth + 1} layers")
        if (self.palette is not None) != run.has_palette:
            raise ValueError("it has a palette that its settings have not, or the other way round")
        select = f"{self.cell.probe.select_on}_accuracy"
        for probes in self.every_probe():
            accuracies = [getattr(layer, select) for layer in probes.layers]
            if accuracies[probes.best_layer] < max(accuracies):
                raise ValueError(f"the layer that was chosen is not the best on {self.cell.probe.select_on}")
        return self

    @pydantic.model_validator(mode="after")
    def _refuse_images_that_were_not_asked_for(self) -> Record:
        run, cell = self.cell.run, self.cell
        parts = [("probes", cell.probe, self.probe), ("fine-tuning", cell.finetune, self.finetune)]
        for name, asked, found in parts:
            if found and (found.data is not None) != (run.read_by(asked) != run):
                raise ValueError(f"its {name} are not on the images that its settings name")
        if self.probe.chance < 1 / len(self.probed_on.classes):
            raise ValueError("the commonest class of its test images cannot be as rare as chance says")
        return self

    @property
    def probed_on(self) -> Data:
        """The images that the accuracies of its probes are on."""
        return self.probe.data or self.data

    @property
    def tuned_on(self) -> Data:
        """The images that the accuracies of its fine-tuning are on."""
        return (self.finetune and self.finetune.data) or self.data

    def read(self) -> list[tuple[RunConfig, Data]]:
        """Every set of images that it has read, by the settings that read it: that of pre-training is the first."""
        others = [(self.cell.probe, self.probe.data), (self.cell.finetune, self.finetune and self.finetune.data)]
        return [(self.cell.run, self.data), *((self.cell.run.read_by(part), data) for part, data in others if data)]

    def every_probe(self) -> list[Probes]:
        """The probes of every protocol and epoch, of the network and of its untrained twin, where they are there."""
        others = [probes for other in self.other_probes for probes in (other.trained, other.untrained)]
        return [one for one in (self.probe, *self.probe.along, self.probe.untrained, *others) if one is not None]
