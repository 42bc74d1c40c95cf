"""What a run may be: reasons for every setting, one sentence for every refusal, and an identity that never drifts."""

import ast
import dataclasses
import itertools
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Literal, get_args, get_origin

import numpy as np
import pytest

from isonb import config, places, rows, studies
from isonb.config import Cell, ConfigError, Execution, FinetuneConfig, ProbeConfig, RunConfig
from isonb.evidence import metrics

PAPERS = ("conv", "mixer", "transformer")
MODELS = [RunConfig, ProbeConfig, FinetuneConfig, Execution, Cell]
# What somebody has added to the paper's blocks and encodings: studies hold it, too.
OWN_BLOCKS = [block for block in rows.BLOCKS.values() if block.in_grid]
OWN_NETWORKS = [network.name for network in rows.networks(OWN_BLOCKS) if not network.in_paper]
OWN_ENCODINGS = [name for name in config.GRID_ENCODINGS if name not in ("continuous", "rff", "pix2vec")]
# For the fields of a run another value that is allowed, with what it needs to mean something.
CHOSEN = {
    "block": ("mixer", {}),
    "depth": (3, {}),
    "width": (64, {}),
    "heads": (4, {"block": "transformer"}),
    "positions": ("sincos", {}),
    "positions_base": (100.0, {"positions": "sincos"}),
    "kernel_size": (5, {}),
    "padding": ("reflect", {}),
    "token_ratio": (0.5, {"block": "mixer"}),
    "channel_ratio": (2.0, {"block": "mixer"}),
    "mlp_ratio": (4.0, {"block": "transformer"}),
    "attention_output": (False, {"block": "transformer"}),
    "layer_norm_eps": (1e-5, {}),
    "initialisation": ("torch", {}),
    "head_norm": (False, {}),
    "encoding": ("pix2vec", {}),
    "channel_merge": ("concat", {}),
    "sigma": (10.0, {"encoding": "rff"}),
    "frequencies": (64, {"encoding": "rff"}),
    "rff_range": ("unit", {"encoding": "rff"}),
    "rff_trainable": (True, {"encoding": "rff"}),
    "objective": ("mse", {}),
    "mask_rate": (0.5, {}),
    "mask_unit": ("subpixel", {}),
    "mask_fill": ("learned", {}),
    "evaluation_masks": (8, {}),
    "data": ("cifar10", {}),
    "image_size": (16, {}),
    "data_fraction": (0.5, {}),
    "validation_fraction": (0.2, {"data": "cifar10"}),
    "test_fraction": (0.5, {"data": "folder"}),
    "image_fit": ("crop", {"data": "folder"}),
    "collection": ("birds", {"data": "folder"}),
    "classes": ("0-4,7", {}),
    "fold": (3, {"data": "stl10"}),
    "unlabelled": (True, {"data": "stl10"}),
    "augmentation": ("flip-crop", {}),
    "seed": (1, {}),
    "learning_rate": (0.003, {}),
    "batch_size": (32, {}),
    "epochs": (6, {}),
    "warmup_epochs": (0.5, {}),
    "adam_beta1": (0.8, {}),
    "adam_beta2": (0.95, {}),
    "adam_eps": (1e-8, {}),
    "weight_decay": (0.01, {}),
}


def another(field):
    """Another value than the default, for a setting that is not listed above."""
    if get_origin(field.annotation) is Literal:
        return next(value for value in get_args(field.annotation) if value != field.default)
    if field.annotation is bool:
        return not field.default
    return field.default + 1 if field.annotation is int else field.default / 2 or 0.5


OTHER = {
    name: CHOSEN.get(name) or (another(field), dict(field.json_schema_extra["only"]))
    for name, field in RunConfig.model_fields.items()
}


@pytest.mark.parametrize("model", MODELS)
def test_every_setting_has_its_reason_and_its_point(model):
    for name, field in model.model_fields.items():
        assert len(field.description.split()) >= 2, name
        assert re.fullmatch(r"-|[AC]\d+|\d\.\d", field.json_schema_extra["point"]), name


@pytest.mark.parametrize("name", OTHER)
def test_every_changed_setting_is_another_run(name):
    value, needed = OTHER[name]
    usual, changed = RunConfig(**needed), RunConfig(**needed, **{name: value})
    assert getattr(changed, name) == value != getattr(usual, name)
    assert changed.run_id != usual.run_id and changed.digest != usual.digest
    assert RunConfig(**json.loads(json.dumps(changed.model_dump()))) == changed


@pytest.mark.parametrize(
    "name", [name for name, (_, needed) in OTHER.items() if needed and name != "validation_fraction"]
)
def test_a_setting_without_effect_is_refused(name):
    value, needed = OTHER[name]
    [(other, wanted)] = needed.items()
    current = getattr(RunConfig(), other)
    usual = RunConfig.model_fields[name].default
    with pytest.raises(ConfigError) as refusal:
        RunConfig(**{name: value})
    assert str(refusal.value) == (
        f"{name}={value!r} has no effect with {other}={current!r}: leave {name} at {usual!r} or set {other}={wanted!r}."
    )
    assert RunConfig(**{name: usual}) == RunConfig()


@pytest.mark.parametrize(("name", "value"), [("kernel_size", 5), ("padding", "circular")])
def test_convolution_settings_mean_nothing_to_other_blocks(name, value):
    for block in ("mixer", "transformer"):
        with pytest.raises(ConfigError, match=f"{name}={value!r} has no effect with block='{block}'"):
            RunConfig(**{"block": block, name: value})


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"wdith": 64}, "There is no setting called 'wdith': did you mean 'width'?"),
        (
            {"block": "lstm"},
            f"block='lstm' is not allowed: choose {', '.join(config.BLOCKS[:-1])} or {config.BLOCKS[-1]}.",
        ),
        ({"kernel_size": 4}, "kernel_size=4 is not allowed: choose 3 or 5."),
        ({"width": 3}, "width=3 is not allowed: it must be greater than or equal to 4."),
        ({"mask_rate": 1.0}, "mask_rate=1.0 is not allowed: it must be less than 1."),
        ({"mask_rate": 0.0}, "mask_rate=0.0 is not allowed: it must be greater than 0."),
        ({"image_size": 65}, "image_size=65 is not allowed: it must be less than or equal to 64."),
        ({"seed": True}, "seed=True is not allowed: it must not be True or False."),
        ({"data": False}, "data=False is not allowed: it must not be True or False."),
        ({"head_norm": "never"}, "head_norm='never' is not allowed: it must be True or False."),
        ({"head_norm": 2}, "head_norm=2 is not allowed: it must be True or False."),
        ({"kernel_size": "4"}, "kernel_size=4 is not allowed: choose 3 or 5."),
        ({"collection": True, "data": "folder"}, "collection=True is not allowed: it must be text, in quotes."),
        ({"learning_rate": float("nan")}, "learning_rate=nan is not allowed: it must be a finite number."),
        (
            {"depth": 1.5},
            "depth=1.5 is not allowed: it must be a whole number.",
        ),
        (
            {"width": "wide"},
            "width='wide' is not allowed: it must be a whole number.",
        ),
        (
            {"block": "transformer", "heads": 3},
            "heads=3 does not divide width=128: choose a divisor.",
        ),
        (
            {"objective": "autoregressive", "padding": "circular"},
            "padding='circular' is not allowed with objective='autoregressive': at the border it would show pixels "
            "that are yet to be predicted; choose 'zeros'.",
        ),
        (
            {"objective": "autoregressive", "mask_fill": "learned"},
            "mask_fill='learned' has no effect with objective='autoregressive', which hides nothing: choose 'zero'.",
        ),
        (
            {"positions": "sincos", "width": 6},
            "width=6 is not allowed with positions='sincos': it must be divisible by 4.",
        ),
        *(
            (
                {"initialisation": "keras-mha", "block": block},
                f"initialisation='keras-mha' has no effect with block='{block}': choose 'keras', the same without "
                "attention, or set block='transformer'.",
            )
            for block in ("conv", "mixer")
        ),
        ({"epochs": 2, "warmup_epochs": 3}, "warmup_epochs=3.0 is longer than epochs=2: shorten it."),
        (
            {"data": "cifar10", "image_size": 16},
            "image_size=16 is not allowed with data='cifar10': its images are 32x32.",
        ),
        (
            {"validation_fraction": 0.2},
            "validation_fraction=0.2 has no effect with data='photos': it has validation images of its own.",
        ),
        (
            {"depth": 0, "adam_beta1": 1.0},
            "depth=0 is not allowed: it must be greater than or equal to 1. "
            "adam_beta1=1.0 is not allowed: it must be less than 1.",
        ),
    ],
)
def test_a_refusal_names_the_setting_its_value_and_what_is_allowed(settings, sentence):
    with pytest.raises(ConfigError) as refusal:
        RunConfig(**settings)
    assert str(refusal.value) == sentence


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        *(({"head_norm": word}, {"head_norm": False}) for word in ("no", "No", "off", "false", "FALSE", "0", 0, False)),
        *(({"rff_trainable": word, "encoding": "rff"}, {"rff_trainable": True, "encoding": "rff"})
          for word in ("yes", "YES", "on", "true", "True", "1", 1)),
        *(({"kernel_size": word}, {"kernel_size": 5}) for word in (5, 5.0, "5", "5.0")),
        *(({"epochs": word}, {"epochs": 1000}) for word in (1000, 1e3, "1e3", "1000", "1000.0")),
        *(({"learning_rate": word}, {"learning_rate": 0.0001}) for word in (1e-4, "1e-4", "0.0001", "1E-04")),
        ({"collection": 2024, "data": "folder"}, {"collection": "2024", "data": "folder"}),
    ],
)  # fmt: skip
def test_a_value_means_the_same_however_it_is_written(written, meant):
    """As Python, JSON, TOML and YAML write it, as papermill's `-p` and `-y` hand it on, and Snakemake's `--config`."""
    assert RunConfig(**written) == RunConfig(**meant)
    assert RunConfig(**written).run_id == RunConfig(**meant).run_id
    assert config.from_parameters(written)[0].run == config.smoke(**meant).run


@pytest.mark.parametrize("nothing", [None, "None", "null", "NULL", "~"])
def test_nothing_keeps_what_the_study_says_in_every_spelling(nothing):
    given = {"epochs": nothing, "positions": nothing, "threads": nothing, "study": nothing}
    assert config.from_parameters(given) == config.from_parameters({})
    assert config.from_parameters({"positions": "none"})[0].run.positions == "none"  # a value of its own


def test_settings_that_hold_any_words_are_known():
    fields = {**Execution.model_fields}
    for part, prefix in config.PREFIXES.items():
        fields |= {prefix + name: field for name, field in config.MODELS[part].model_fields.items()}
    assert set(config.TEXTS) == {name for name, field in fields.items() if field.annotation is str}


def test_an_unknown_name_like_no_other_lists_them_all():
    with pytest.raises(ConfigError, match=r"no setting called 'zzz': choose among adam_beta1, .*, width\."):
        RunConfig(zzz=1)
    with pytest.raises(ConfigError, match=r"processes=-1 is not allowed: it must be greater than or equal to 0\."):
        Execution(processes=-1)


def test_configurations_do_not_change():
    run = RunConfig()
    with pytest.raises(ValueError, match="frozen"):
        run.depth = 3
    assert run.depth == 1


@pytest.mark.parametrize(
    ("settings", "positions"),
    [
        ({"block": "transformer"}, "learned"),
        ({"block": "transformer", "positions": "none"}, "none"),
        ({"block": "transformer", "positions": "sincos"}, "sincos"),
        ({"block": "mixer"}, "none"),
        ({"block": "conv"}, "none"),
        ({"block": "conv", "positions": "learned"}, "learned"),
        ({}, "none"),
    ],
)
def test_only_transformers_learn_positions_unless_told(settings, positions):
    assert RunConfig(**settings).positions == positions
    assert config.smoke(**settings).run.positions == positions


def test_the_name_of_a_run_can_be_read_and_is_the_same_everywhere():
    run = RunConfig(block="transformer", heads=4, encoding="rff", depth=6, seed=2)
    assert re.fullmatch(r"transformer4-rff-L6-s2-[0-9a-f]{8}", run.run_id)
    assert re.fullmatch(r"conv-continuous-L1-s0-[0-9a-f]{8}", RunConfig().run_id)
    assert RunConfig(learning_rate=1).run_id == RunConfig(learning_rate=1.0).run_id
    code = "from isonb import studies; print([cell.run.digest for cell in studies.cells('paper')])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "12"}
    )
    assert ast.literal_eval(done.stdout) == [cell.run.digest for cell in studies.cells("paper")]


# An identity that survives growth


class Grown(RunConfig):
    """A configuration to which somebody has added a setting."""

    made_up: float = config.choice(0.5, "-", "a setting of the future", since=config.VERSION + 1, ge=0)


COMMITTED = sorted((places.PROJECT / "book" / "results" / "cpu").glob("*.json"))


def test_a_new_setting_renames_no_result():
    assert len(COMMITTED) >= 132
    for path in COMMITTED:
        settings = json.loads(path.read_text())["cell"]["run"]
        assert RunConfig(**settings).run_id == Grown(**settings).run_id == path.stem
    assert Grown(made_up=0.25).run_id != Grown(made_up=0.75).run_id != RunConfig().run_id


def test_settings_are_of_this_version_or_an_earlier_one():
    versions = {field.json_schema_extra["since"] for model in MODELS for field in model.model_fields.values()}
    assert versions <= set(range(1, config.VERSION + 1))


def test_a_setting_that_came_later_is_a_part_of_the_name_where_it_is_changed():
    run = RunConfig(data="folder")
    assert "image_fit" not in run.identity() and "image_size" in run.identity()
    assert run.model_copy(update={"image_fit": "crop"}).identity() == run.identity() | {"image_fit": "crop"}


def test_a_block_without_a_causal_form_is_refused_where_one_is_needed(monkeypatch):
    monkeypatch.setitem(rows.BLOCKS, "mixer", dataclasses.replace(rows.BLOCKS["mixer"], has_causal_form=False))
    with pytest.raises(ConfigError) as refusal:
        RunConfig(block="mixer", objective="autoregressive")
    assert str(refusal.value) == (
        "objective='autoregressive' is not allowed with block='mixer', which has no causal form: it would see the "
        "pixels that it is to predict; choose another objective or block."
    )
    assert RunConfig(block="mixer").run_id and RunConfig(block="conv", objective="autoregressive").is_causal


# Studies and parameters


def listed(name):
    """The cells of a study's grid and of its arms."""
    return [cell for cell in studies.cells(name) if not cell.is_beside_grid]


@pytest.mark.parametrize("name", ["smoke", "cpu", "paper"])
def test_a_study_has_its_cells_once_and_the_whole_grid(name):
    cells = studies.cells(name)
    assert len(cells) == len({cell.run.run_id for cell in cells})
    assert {cell.study for cell in cells} == {name}
    grid = Counter(
        (cell.run.seed, cell.run.depth, cell.run.network, cell.run.encoding)
        for cell in cells
        if metrics.arm(cell) == metrics.MAIN
    )
    blocks = ["conv", "mixer", "transformer-1"] + ["transformer-4"] * (name != "smoke") + OWN_NETWORKS
    sizes, seeds = {"smoke": ([1], [0]), "cpu": ([1, 3, 6], [0, 1, 2]), "paper": ([1, 3, 6, 12], [0, 1, 2])}[name]
    left_out = {("cpu", 6, "transformer-4")}
    assert grid == Counter(
        (seed, size, block, encoding)
        for seed in seeds
        for size in sizes
        for block in blocks
        for encoding in ("continuous", "rff", "pix2vec", *OWN_ENCODINGS)
        if (name, size, block) not in left_out
    )


def test_the_cpu_study_goes_from_one_whole_grid_to_more_seeds():
    parts = itertools.groupby(
        (cell.run.seed, cell.run.depth, metrics.arm(cell) == metrics.MAIN) for cell in studies.cells("cpu")
    )
    grid, arm = True, False
    assert [part for part, _ in parts] == [
        (0, 1, grid), (0, 1, arm), (0, 3, grid), (0, 6, grid),
        (1, 1, grid), (2, 1, grid), (1, 1, arm), (2, 1, arm),
        (1, 3, grid), (2, 3, grid), (0, 3, arm), (1, 3, arm), (2, 3, arm),
        (1, 6, grid), (2, 6, grid),
        (0, 1, arm), (1, 1, arm), (2, 1, arm),  # controls, with the first seed longer training, too
        (0, 1, arm), (1, 1, arm), (2, 1, arm),  # the longest training
        (0, 1, arm), (1, 1, arm), (2, 1, arm),  # transfers between halves of the classes
        (0, 3, arm), (1, 3, arm), (2, 3, arm),  # image-GPT's palette
    ]  # fmt: skip


CONTROLS = {
    ("transformer-1", "continuous", "mlp_ratio=4.0"),
    ("transformer-1", "continuous", "width=224"),
    ("conv", "continuous", "width=74"),
    *((network, "rff", f"sigma={sigma}") for network in ("conv", "mixer", "transformer-1") for sigma in (0.1, 10.0)),
    ("conv", "continuous", "positions=learned"),
    ("mixer", "continuous", "positions=learned"),
    *(("transformer-1", encoding, "initialisation=keras-mha") for encoding in ("continuous", "rff", "pix2vec")),
    ("transformer-1", "continuous", "positions=sincos positions_base=100.0"),
}


@pytest.mark.parametrize("name", ["cpu", "paper"])
def test_controls_are_run_with_every_seed_after_what_the_paper_has(name):
    cells = listed(name)
    kinds = [(cell.run.network, cell.run.encoding, metrics.arm(cell)) for cell in cells]
    places = [place for place, kind in enumerate(kinds) if kind in CONTROLS]
    assert {(*kinds[place], cells[place].run.seed) for place in places} >= {
        (*kind, seed) for kind in CONTROLS for seed in (0, 1, 2)
    }
    assert {cells[place].run.depth for place in places} == {1}
    rest = {place for place in range(min(places), len(cells))} - {*places}
    papers = [run for place in rest if (run := cells[place].run).block in PAPERS and run.encoding not in OWN_ENCODINGS]
    assert {run.epochs for run in papers} <= {24, 96}


def test_longer_training_is_of_the_study_cpu_and_keeps_its_warm_up():
    arms = [cell.run for cell in studies.cells("cpu") if metrics.arm(cell).split()[-1] in ("epochs=24", "epochs=96")]
    arms = [run for run in arms if run.network not in OWN_NETWORKS and run.encoding not in OWN_ENCODINGS]
    assert {(run.warmup_epochs, run.depth, run.data_fraction) for run in arms} == {(1.0, 1, 1.0)}
    rate = config.cell("cpu").run.learning_rate
    assert Counter((run.network, run.encoding, run.epochs, run.learning_rate, run.seed) for run in arms) == Counter([
        *(
            (network, encoding, 24, rate, 0)
            for network in ("conv", "mixer", "transformer-1", "transformer-4")
            for encoding in ("continuous", "rff", "pix2vec")
        ),
        *((network, "continuous", 24, 0.003, 0) for network in ("conv", "mixer", "transformer-1")),
        *((network, "continuous", 96, rate, seed) for network in ("mixer", "transformer-1") for seed in (0, 1, 2)),
    ])  # fmt: skip
    assert {cell.run.epochs for cell in studies.cells("paper") if cell.run.data_fraction == 1} == {51}


def test_a_part_of_the_images_is_trained_on_for_as_many_steps():
    for name in ("cpu", "paper"):
        whole = config.cell(name).run
        parts = [cell.run for cell in studies.cells(name) if cell.run.data_fraction < 1]
        assert {run.data_fraction for run in parts} == {0.25, 0.5}
        for run in parts:
            assert run.epochs * run.data_fraction == whole.epochs
            assert run.warmup_epochs * run.data_fraction == whole.warmup_epochs


def test_probes_along_training_are_asked_for_where_a_claim_hangs_on_them():
    along = [cell for name in config.STUDIES for cell in listed(name) if cell.probe.along]
    assert {(cell.study, metrics.arm(cell), cell.run.heads, cell.run.epochs) for cell in along} == {
        ("cpu", metrics.MAIN, 1, 6),  # six epochs, which claim C29 needs
        ("paper", metrics.MAIN, 1, 51),
    }
    large, along = ([cell for cell in along if cell.study == name] for name in ("paper", "cpu"))
    # two steps of size with three encodings: six cells, the fewest of which a sign test, C30's, can have p < 0.05
    assert {(cell.run.block, cell.run.encoding, cell.run.depth, cell.run.seed) for cell in large} == {
        ("transformer", encoding, size, seed)
        for encoding in config.GRID_ENCODINGS
        for size in (1, 3, 6)
        for seed in (0, 1, 2)
    }
    sizes = {"continuous": (1, 3)}
    seeds = {"transformer": (0, 1, 2)}
    assert Counter((cell.run.block, cell.run.encoding, cell.run.depth, cell.run.seed) for cell in along) == Counter(
        (block, encoding, size, seed)
        for block in config.GRID_BLOCKS
        for encoding in config.GRID_ENCODINGS
        for size in sizes.get(encoding, (1,))
        for seed in seeds.get(block, (0,))
    )


@pytest.mark.parametrize(("name", "sizes"), [("cpu", {1}), ("paper", {1, 3})])
def test_transformers_like_image_gpts_are_fine_tuned_by_both_objectives(name, sizes):
    tuned = [cell for cell in listed(name) if cell.finetune.epochs]
    assert Counter((cell.run.objective, cell.run.depth, cell.run.seed) for cell in tuned) == Counter(
        (objective, size, seed) for objective in ("bert", "autoregressive") for size in sizes for seed in (0, 1, 2)
    )
    assert {(cell.run.network, cell.run.encoding) for cell in tuned} == {("transformer-1", "pix2vec")}
    arms = {"main", "objective=autoregressive"}  # nothing else about them differs
    assert {metrics.arm(cell) for cell in tuned} == arms and all(cell.probe.pixels for cell in tuned)


def test_pixels_are_decoded_from_the_largest_networks_of_every_block():
    decoded = [cell for cell in studies.cells("cpu") if cell.probe.pixels and cell.run.depth == 6]
    assert Counter((cell.run.block, cell.run.encoding, cell.run.seed) for cell in decoded) == Counter(
        (block, "pix2vec", seed) for block in config.GRID_BLOCKS for seed in (0, 1, 2)
    )


@pytest.mark.parametrize("name", ["cpu", "paper"])
def test_image_gpts_palette_comes_last_and_is_judged_in_every_way(name):
    cells = studies.cells(name)
    assert [(cell.run.seed, cell.run.objective) for cell in cells[-6:]] == [
        (seed, objective) for seed in (0, 1, 2) for objective in ("bert", "autoregressive")
    ]
    for cell in cells[-6:]:
        run = cell.run
        assert (run.network, run.encoding, run.target, run.depth, run.width) == (
            "transformer-1",
            *["palette"] * 2,
            3,
            128,
        )
        assert cell.probe.along and cell.probe.pixels and cell.finetune.epochs and cell.is_beside_grid
    assert not any(cell.run.has_palette for cell in cells[:-6])


@pytest.mark.parametrize(("name", "batch_size"), [("cpu", 128), ("paper", 32)])
def test_every_arm_changes_one_setting_of_a_cell_of_the_grid(name, batch_size):
    cells = listed(name)
    grid = {tuple(getattr(cell.run, key) for key in metrics.IDENTITY) for cell in cells if metrics.arm(cell) == "main"}
    arms = [cell for cell in cells if metrics.arm(cell) != "main"]
    changed = {frozenset(name.split("=")[0] for name in metrics.arm(cell).split()) for cell in arms}
    assert {names for names in changed if len(names) > 1} == {
        frozenset({"data_fraction", "epochs", "warmup_epochs"}),  # fewer images, as many steps
        frozenset({"positions", "positions_base"}),
        *([frozenset({"epochs", "learning_rate"})] if name == "cpu" else []),  # a lower rate for longer
    }
    assert {tuple(getattr(cell.run, key) for key in metrics.IDENTITY) for cell in arms} <= grid
    by_block = {
        block: {metrics.arm(cell).split()[0] for cell in arms if cell.run.block == block and cell.run.depth == 1}
        for block in config.GRID_BLOCKS
    }
    of_all = {
        "learning_rate=0.003", "learning_rate=0.001", "data_fraction=0.25", "data_fraction=0.5",
        f"batch_size={batch_size}",
    }  # fmt: skip
    assert by_block["mixer"] >= of_all
    assert by_block["conv"] >= of_all | {"kernel_size=5"}
    assert by_block["transformer"] >= of_all | {"positions=none", "positions=sincos", "objective=autoregressive"}
    for kind in ("none", "sincos"):
        changed = {cell.run.encoding for cell in arms if metrics.arm(cell) == f"positions={kind}"}
        assert changed == set(config.GRID_ENCODINGS)
    initial = {cell.run.network for cell in arms if metrics.arm(cell) == "initialisation=torch"}
    assert initial == {
        "conv",
        "mixer",
        "transformer-1",
        "transformer-4",
        *OWN_NETWORKS,
    }  # Figure 5 shows the first four


def test_studies_differ_in_data_and_length():
    smoke, cpu, paper = (config.cell(name).run for name in ("smoke", "cpu", "paper"))
    assert (smoke.data, cpu.data, paper.data) == ("photos", "cifar10", "cifar10")
    assert smoke.epochs < 51 and cpu.epochs < 51
    # The paper's numbers, section 4.2: 1 + 50 epochs, peak 0.01, batches of 128, 15 % masked, 128 channels
    assert (paper.epochs, paper.warmup_epochs, paper.learning_rate) == (51, 1, 0.01)
    assert (paper.batch_size, paper.mask_rate, paper.width, paper.image_size) == (128, 0.15, 128, 32)
    for cell in (config.smoke(), config.cpu(), config.paper()):
        assert cell.probe.pooling == "mean" and cell.probe.select_on == "validation"


def test_a_studys_cell_can_be_changed_in_run_and_probe():
    cell = config.cell("cpu", depth=3, probe_inputs="masked")
    assert cell.run == RunConfig(**{**config.cpu().run.model_dump(), "depth": 3})
    assert cell.probe == ProbeConfig(**{**config.cpu().probe.model_dump(), "inputs": "masked"})


def test_a_cell_is_not_fine_tuned_unless_told():
    for study in config.STUDIES:
        assert all(cell.finetune.epochs == 0 and not cell.probe.pixels for cell in [config.cell(study)])
    cell = config.smoke(finetune_epochs=3, finetune_batch_size=8, epochs=5, batch_size=2, probe_epochs=7)
    assert cell.finetune == FinetuneConfig(epochs=3, batch_size=8)
    assert (cell.run.epochs, cell.run.batch_size, cell.probe.epochs) == (5, 2, 7)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"finetune_learning_rate": 0.01},
            "Of the fine-tuning's settings, learning_rate=0.01 has no effect with epochs=0: set the epochs, too.",
        ),
        (
            {"finetune_epochs": -1},
            "Of the fine-tuning's settings, epochs=-1 is not allowed: it must be greater than or equal to 0.",
        ),
        ({"probe_pixels": 3}, "Of the probe's settings, pixels=3 is not allowed: it must be True or False."),
        ({"finetune_epoch": 1}, "There is no setting called 'finetune_epoch': did you mean 'finetune_epochs'?"),
    ],
)
def test_a_refusal_of_a_part_of_a_cell_names_the_part(settings, sentence):
    with pytest.raises(ConfigError) as refusal:
        config.smoke(**settings)
    assert str(refusal.value) == sentence


def test_extras_are_added_to_a_cell_and_nothing_else_is():
    other = config.cpu(seed=1, probe_along=True, probe_epochs=3, finetune_epochs=2)
    assert config.smoke().with_extras(other) == config.smoke(probe_along=True, finetune_epochs=2)
    assert config.smoke(finetune_epochs=4, probe_pixels=True).with_extras(other) == config.smoke(
        finetune_epochs=4, probe_along=True, probe_pixels=True
    )
    assert config.smoke(probe_along=True).with_extras(config.smoke()) == config.smoke(probe_along=True)


@pytest.mark.parametrize("pooling", ["grid4", "flatten"])
def test_only_few_features_are_whitened(pooling):
    assert (ProbeConfig().scaling, ProbeConfig(pooling=pooling).scaling) == ("whiten", "standardise")
    assert ProbeConfig(pooling=pooling, scaling="none").scaling == "none"
    with pytest.raises(ConfigError, match=f"scaling='whiten' is not allowed with pooling='{pooling}': choose 'stand"):
        ProbeConfig(pooling=pooling, scaling="whiten")


def test_none_keeps_what_the_study_says():
    assert config.cell("smoke", epochs=None, depth=None, probe_solver=None) == config.smoke()
    assert config.cell("smoke", epochs=7).run.epochs == 7


def test_unknown_studies_and_settings_are_refused():
    for ask in (config.cell, studies.cells):
        with pytest.raises(ConfigError, match="study='big' is not allowed: choose smoke, cpu, paper"):
            ask("big")
    with pytest.raises(ConfigError, match="no setting called 'probe_poling': did you mean 'probe_pooling'"):
        config.smoke(probe_poling="mean")
    with pytest.raises(ConfigError, match="no setting called 'pooling'"):
        config.smoke(pooling="mean")


def test_a_notebooks_namespace_is_read_without_what_is_not_a_parameter():
    def helper():
        return None

    namespace = {
        "__name__": "__main__", "_": 3, "_i1": "import numpy as np", "np": np, "json": json, "helper": helper,
        "RunConfig": RunConfig, "In": [""], "Out": {}, "len": len, "exit": object(), "get_ipython": object(),
        "study": "cpu", "block": "mixer", "depth": 3, "seed": None, "probe_pooling": "grid4", "processes": 2,
    }  # fmt: skip
    cell, execution = config.from_parameters(namespace)
    assert cell == config.cpu(block="mixer", depth=3, probe_pooling="grid4")
    assert execution == Execution(processes=2)
    assert namespace["study"] == "cpu"  # it is read, not emptied
    assert config.from_parameters({}) == (config.smoke(), Execution())


def test_a_notebook_can_be_run_again_with_what_it_has_made():
    namespace = {"block": "mixer"}
    namespace["cell"], namespace["execution"] = config.from_parameters(namespace)
    namespace |= {"titles": ["cat"], "path": Path("of/a/record"), "arrays": {}, "depth": 3}
    assert config.from_parameters(namespace)[0] == config.smoke(block="mixer", depth=3)


def test_what_says_how_to_compute_is_no_setting_of_a_cell():
    with pytest.raises(ConfigError, match="'threads' says how a cell is computed, not what it is"):
        config.cell("smoke", threads=2)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"blok": "conv"}, "There is no setting called 'blok': did you mean 'block'?"),
        ({"proceses": 2}, "There is no setting called 'proceses': did you mean 'processes'?"),
        ({"study": "huge"}, "study='huge' is not allowed: choose smoke, cpu, paper."),
        ({"study": ["smoke"]}, "study=['smoke'] is not allowed: choose smoke, cpu, paper."),
        ({"depth": [3]}, "depth=[3] is not allowed: it must be a whole number."),
        ({"device": "tpu"}, "device='tpu' is not allowed: choose auto, cpu or cuda."),
    ],
)
def test_a_parameter_nobody_knows_is_refused(wrong, sentence):
    with pytest.raises(ConfigError) as refusal:
        config.from_parameters({"depth": 3, **wrong})
    assert str(refusal.value) == sentence


def test_a_study_may_go_by_its_older_name():
    assert config.from_parameters({"profile": "cpu"}) == config.from_parameters({"study": "cpu"})
    assert (
        config.from_parameters({"study": "smoke", "profile": "cpu"})[0].study == "cpu"
    )  # the notebook's own, unchanged
    with pytest.raises(ConfigError, match="'paper' and 'cpu' name two studies: remove one of them"):
        config.from_parameters({"study": "paper", "profile": "cpu"})


def test_a_folder_that_would_not_be_read_is_refused():
    with pytest.raises(
        ConfigError, match=r"data_folder has no effect with data='photos': set data to one of cifar10, "
    ):
        config.from_parameters({"data_folder": "/pictures"})
    assert config.from_parameters({"data": "folder", "data_folder": "/pictures"})[1].data_folder == "/pictures"


def test_a_name_is_no_setting():
    with pytest.raises(ConfigError, match="There is no setting called 'name'"):
        config.from_parameters({"name": "mine"})


def test_every_setting_can_be_a_parameter():
    names = config.setting_names()
    assert len(names) == len(set(names))  # no run setting hides an execution setting
    assert set(OTHER) < set(names) and {"probe_solver", "finetune_epochs", "threads"} < set(names)
    assert Cell(**json.loads(json.dumps(config.cpu(depth=6).model_dump()))) == config.cpu(depth=6)
    assert Execution(data_folder="/images").data_path.name == "images" and Execution().data_path is None
