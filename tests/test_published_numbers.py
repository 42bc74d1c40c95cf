"""image-GPT's published numbers: as its paper and its code's README give them, and beside what has been run here."""

from made_records import leave_record, made_record

from isonb import config, presets
from isonb.evidence import claims, published

PALETTE = {"block": "transformer", "encoding": "palette", "target": "palette", "objective": "autoregressive"}


def tables_of(tmp_path, monkeypatch, *cells):
    monkeypatch.setenv("ISONB_RESULTS", str(tmp_path))
    for (depth, seed), accuracy in cells:
        leave_record(made_record(config.cpu(**PALETTE, depth=depth, seed=seed), test_accuracy=accuracy))
    leave_record(made_record(config.cpu(block="transformer", depth=3, objective="autoregressive"), test_accuracy=0.9))
    return claims.read("cpu")


def test_the_published_numbers_stand_as_they_were_published(tmp_path, monkeypatch):
    shown = published.beside_ours(tables_of(tmp_path, monkeypatch))
    assert list(shown["nats per palette pixel"][:3]) == ["2.0895", "2.0614", "2.0466"]
    assert list(shown["parameters"][:3]) == ["76 million", "455 million", "1,362 million"]
    assert list(shown["probe, CIFAR-10"][:3]) == ["not given", "not given", "96.3%"]
    assert list(shown["fine-tuned, CIFAR-10"][:3]) == ["not given", "not given", "99.0%"]
    assert [one.preset for one in published.PUBLISHED] == [name for name in presets.PRESETS if name != "image-gpt-xs"]


def test_what_has_not_run_is_said_to_be_so(tmp_path, monkeypatch):
    t = tables_of(tmp_path, monkeypatch)
    assert set(published.beside_ours(t).iloc[3][1:]) == {"not run"}
    assert published.scale(t) == "Ours: not run."


def test_ours_are_the_means_over_seeds_of_the_largest_palette_network(tmp_path, monkeypatch):
    t = tables_of(tmp_path, monkeypatch, ((1, 0), 0.8), ((3, 0), 0.25), ((3, 1), 0.35))
    ours = published.beside_ours(t).iloc[3].astype(str)
    assert ours["network"] == "ours, transformer-1, seeds: 2"
    assert (ours["blocks"], ours["width"], ours["probe, CIFAR-10"]) == ("3", "128", "30.0%")
    [run] = t.runs[(t.runs["depth"] == 3) & (t.runs["encoding"] == "palette") & (t.runs["seed"] == 0)].to_dict(
        "records"
    )
    assert ours["training images"] == f"{run['data_train']:,}"
    times, images = 1.362e9 / run["parameters"], 1_281_167 / run["data_train"]
    assert published.scale(t) == (
        f"From ours to iGPT-L it is a factor of {times:,.0f} in parameters and of {images:,.0f} in images; iGPT-L has "
        "16 times as many blocks."
    )
