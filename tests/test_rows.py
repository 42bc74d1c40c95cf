"""The rows: every implementation is there and is what the row says, and a wrong row is told in a sentence."""

import dataclasses

import pytest
from torch import nn

from isonb import rows
from isonb.config import ConfigError, RunConfig
from isonb.models.encodings import Encoding
from isonb.models.objectives import Loss

TABLES = {"block": rows.BLOCKS, "encoding": rows.ENCODINGS, "objective": rows.OBJECTIVES, "data": rows.SOURCES}


@pytest.mark.parametrize("setting", TABLES)
def test_every_row_can_be_chosen_by_its_name_and_no_other_can(setting):
    for name, row in TABLES[setting].items():
        assert row.name == name
        assert getattr(RunConfig(**{setting: name}), setting) == name
    with pytest.raises(ConfigError, match="is not allowed: choose"):
        RunConfig(**{setting: "nothing"})


def test_every_implementation_is_what_its_table_promises():
    assert all(issubclass(row.load(), nn.Module) for row in rows.BLOCKS.values())
    assert all(callable(row.load().multiply_accumulates) for row in rows.BLOCKS.values())
    assert all(issubclass(row.load(), Encoding) for row in rows.ENCODINGS.values())
    assert all(issubclass(row.load(), Loss) for row in rows.OBJECTIVES.values())
    for row in rows.SOURCES.values():
        assert all(callable(getattr(row.load(), name)) for name in ("load", "checksums", "name_of"))


def test_networks_are_named_by_block_and_heads_and_look_unlike():
    names = [network.name for network in rows.networks()]
    assert names[:4] == ["conv", "mixer", "transformer-1", "transformer-4"]
    for block in rows.BLOCKS.values():
        assert [network.name for network in block.networks] == [
            rows.network(block.name, network.heads) for network in block.networks
        ]
    for table in (rows.networks(), rows.ENCODINGS.values()):
        assert len({one.colour for one in table}) == len({one.marker for one in table}) == len(list(table))


def test_names_in_a_text_become_words_and_settings_stay_as_they_are_typed():
    assert (
        rows.in_words("conv before transformer-1, rff 1") == "convolution before transformer (1 head), random Fourier 1"
    )
    as_typed = "encoding=rff of conv-rff-L1-s0-0a1b, conv's"
    assert rows.in_words(as_typed) == "encoding=rff of conv-rff-L1-s0-0a1b, convolution's"


@pytest.mark.parametrize("implementation", ["models.encodings:Continous", "models.encodigns:Continuous"])
def test_a_row_whose_implementation_is_not_there_is_named(implementation):
    row = dataclasses.replace(rows.ENCODINGS["continuous"], implementation=implementation)
    with pytest.raises(ConfigError) as refusal:
        row.load()
    assert str(refusal.value).startswith(
        f"The row 'continuous' in isonb/rows.py names {implementation!r}, which is not"
    )


def test_a_name_stands_for_one_row():
    with pytest.raises(ConfigError, match=r"Two rows in isonb/rows\.py are called 'mse': rename one of them"):
        rows._by_name(*rows.OBJECTIVES.values(), rows.OBJECTIVES["mse"])
