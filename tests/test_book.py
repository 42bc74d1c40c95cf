"""The book builds without a warning from any results or none, and shows the very numbers of its result files."""

import dataclasses
import itertools
import re
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

import nbformat
import numpy as np
import pytest
from built_book import LOSSES, book_with_results, build, copy_sources, page, shared_folder
from made_records import leave_record, made_record

from isonb import config, records, studies
from isonb.evidence import claims, figures, metrics, tables
from isonb.pages import departures, numbers, verdicts

pytestmark = pytest.mark.slow

CONV = "smoke:block=conv,encoding=continuous"


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setenv("ISONB_RESULTS", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="session")
def with_results(tmp_path_factory):
    return book_with_results(shared_folder(tmp_path_factory))


@pytest.fixture(scope="session")
def without_results(tmp_path_factory):
    folder = copy_sources(tmp_path_factory.mktemp("book") / "sources")
    built = build(folder, "--all")
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


class Tags(HTMLParser):
    """Every tag of a page with its attributes."""

    def __init__(self, text):
        super().__init__()
        self.tags = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))


def pages(folder):
    html = folder / "_build" / "html" / "book"
    return {
        path.relative_to(html).as_posix(): path.read_text(encoding="utf-8") for path in sorted(html.rglob("*.html"))
    }


# The role


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (f"{CONV}:training.validation_loss:.2f", "3.12"),
        (f"{CONV}:training.validation_loss", "3.125"),
        (f"{CONV},depth=1,seed=0:probe.test_accuracy:.1%", "37.5%"),
        (f"{CONV}:training.curve.0.validation_loss:.1f", "5.5"),
        (f"{CONV}:probe.protocol", "made by a test"),
        (f"{CONV}:training.peak_memory_bytes:,", "not recorded"),
        ("smoke:block=conv,encoding=rff,sigma=0.5:training.validation_loss:.2f", "not run"),
        ("cpu:block=conv:training.validation_loss:.2f", "not run"),
    ],
)
def test_a_key_reads_as_the_records_number(results, key, text):
    leave_record(made_record(config.smoke(), 3.125, test_accuracy=0.375))
    assert numbers.number(key) == text


@pytest.mark.parametrize("is_run", [True, False])
@pytest.mark.parametrize(
    ("key", "fault"),
    [
        ("smoke:training.validation_loss", "write study:settings:path"),
        ("large::training.validation_loss", "choose smoke, cpu, paper"),
        ("smoke:blocks=conv:training.validation_loss", "did you mean 'block'"),
        ("smoke:block=cnn:training.validation_loss", "choose conv, mixer, transformer or image-gpt"),
        ("smoke:block:training.validation_loss", "names no number"),
        ("smoke::training.loss", "'loss' leads nowhere"),
        ("smoke::training.curve.first.validation_loss", "'first' leads nowhere"),
        ("smoke::training", "a part of a record"),
        ("smoke::training.validation_loss:.2q", "names no number"),
        ("smoke::probe.protocol:.2f", "names no number"),
    ],
)
def test_a_key_that_can_never_name_a_number_is_a_fault(results, key, fault, is_run):
    if is_run:
        leave_record(made_record(config.smoke()))
    with pytest.raises(numbers.KeyFault, match=re.escape(fault)):
        numbers.number(key)


def test_the_number_of_a_damaged_record_reads_damaged(results):
    leave_record(made_record(config.smoke())).write_text("{")
    assert numbers.number("smoke::training.validation_loss:.2f") == "damaged"


def leave_reference(folder, monkeypatch, record):
    """Have a record come with the project."""
    monkeypatch.setattr(records, "REFERENCE", folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ISONB_RESULTS", str(folder))
        return leave_record(record)


def test_a_number_of_the_project_is_shown_as_ours_beside_the_readers(results, tmp_path_factory, monkeypatch):
    key = "smoke:block=mixer:training.validation_loss:.2f"
    path = leave_reference(tmp_path_factory.mktemp("ours"), monkeypatch, made_record(config.smoke(block="mixer"), 3.5))
    assert numbers.number(key) == "3.50 (ours)"
    own = leave_record(made_record(config.smoke(block="mixer"), 3.25))
    assert numbers.number(key) == "3.25 (yours; ours 3.50)"
    assert numbers.number("smoke:block=mixer:training.peak_memory_bytes") == "not recorded (yours; ours not recorded)"
    path.write_text("{")
    assert numbers.number(key) == "damaged"
    path.unlink()
    assert numbers.number(key) == "3.25"
    own.unlink()
    assert numbers.number(key) == "not run"


def test_a_row_past_the_end_is_a_fault(results):
    leave_record(made_record(config.smoke()))
    with pytest.raises(numbers.KeyFault, match="there are 4 rows"):
        numbers.number("smoke::training.curve.4.validation_loss")


# The tables


def test_the_table_of_departures_holds_every_setting_in_order():
    table = departures.table()
    names = [*config.RunConfig.model_fields, *(f"probe_{name}" for name in config.ProbeConfig.model_fields)]
    names += [f"finetune_{name}" for name in config.FinetuneConfig.model_fields]
    assert sorted(table["setting"]) == sorted(names)
    rows = table.set_index("setting")
    assert rows.loc["mask_rate"].tolist() == ["3.3", "0.15", "the paper's 15 %", "> 0 and < 1"]
    assert rows.loc["kernel_size", "allowed"] == "3, 5; for block = conv"
    points = [int(point[1:]) for point in table["point"] if point[0] == "A"]
    assert points == sorted(points)
    assert {1, 2, 3, 4, 5, *range(8, 18), *range(19, 27)} == set(points)


def test_the_first_page_counts_what_is_at_hand(results):
    leave_record(made_record(config.smoke(block="mixer")))
    rows = tables.at_hand().set_index("study")
    assert rows.loc["smoke"].tolist() == [9, 1, "photos", "1", "0", str(config.smoke().run.epochs)]
    assert rows.loc["paper", ["data", "sizes", "seeds", "epochs", "run"]].tolist() == [
        "cifar10", "1, 3, 6, 12", "0, 1, 2", "51", "not run",
    ]  # fmt: skip


def test_one_damaged_record_leaves_the_tables_and_pictures_of_the_others(results):
    cells = [config.smoke(block=block) for block in config.GRID_BLOCKS]
    paths = [leave_record(made_record(cell, 3.5), b"{}") for cell in cells]
    paths[0].write_text("{")
    paths[2].write_text(paths[2].read_text().replace('"block": "transformer"', '"block": "depthwise"'))
    assert [run.run_id for run in tables.finished("smoke")] == [cells[1].run.run_id]
    rows = tables.study("smoke").query("encoding == 'continuous'").set_index("block")
    assert rows["validation loss"].tolist() == ["damaged", "3.500", "damaged"]
    assert rows["accuracy"].tolist() == ["damaged", "25.0%", "damaged"]
    assert tables.at_hand().set_index("study").loc["smoke", "run"] == 1
    figures.reconstruction_grid(cells)


def test_the_study_table_says_not_run_cell_by_cell(results):
    leave_record(made_record(config.smoke(block="mixer", encoding="rff"), 3.5, 0.5))
    rows = tables.study("smoke").set_index(["block", "encoding"])
    assert rows.loc[("mixer", "random Fourier"), ["validation loss", "accuracy", "95 % interval"]].tolist() == [
        "3.500",
        "50.0%",
        "35.2% to 64.8%",
    ]  # of 40 test images; Wilson by hand: 1/2 ± 1.96 √(1/160 + 1.96²/6400) / (1 + 1.96²/40)
    assert (rows.drop(("mixer", "random Fourier"))["validation loss"] == "not run").all()
    assert len(rows) == 9


def cell_of_study(**settings):
    """A cell as the study `cpu` has it, with probes along the training where it asks for them."""
    run = config.cpu(**settings).run
    return next(cell for cell in studies.cells("cpu") if cell.run == run)


def test_an_arm_is_compared_with_the_same_network_and_seed(results):
    for seed, main, arm in ((0, 4.0, 4.5), (1, 4.25, 4.5)):
        for settings, loss in (({}, main), ({"positions": "none"}, arm)):
            cell = cell_of_study(block="transformer", seed=seed, **settings)
            leave_record(made_record(cell, loss, test_accuracy=0.25 + seed / 8))
    leave_record(made_record(cell_of_study(block="conv", kernel_size=5)))  # without its main run
    rows = tables.arms("cpu").set_index(["setting", "network"])
    # changes 1/2 and 1/4: mean 3/8, Student's half-width t(0.975, 1) s / sqrt(2) = 12.706 x 0.17678 / 1.41421 = 1.588
    assert rows.loc[("positions=none", "transformer (1 head), continuous, size 1")].tolist() == [
        "4.500", "+0.375 (-1.213 to +1.963)", "+0.0 (+0.0 to +0.0)", "2 of 3",
    ]  # fmt: skip
    assert (rows.drop(index=("positions=none", "transformer (1 head), continuous, size 1"))["loss"] == "not run").all()
    missing = tables.arm_commands("cpu")
    assert len(missing) == len(rows) - 2  # those two have run
    assert (
        "python -m isonb run-cell --study cpu block=transformer heads=4 encoding=pix2vec depth=3 seed=0 "
        "initialisation=torch"
    ) in missing


def test_loss_and_probe_along_training_are_told_by_cell_and_in_words():
    assert tables.along_training(metrics.tables({})).iloc[0, 0] == "not run"
    assert tables.along_training_in_words(metrics.tables({})).endswith("not run.")
    cells = [config.cpu(seed=0), config.cpu(seed=1), config.cpu(block="mixer"), config.cpu(block="mixer", depth=3)]
    t = metrics.tables({cell.run.run_id: made_record(cell) for cell in cells})
    t = dataclasses.replace(t, curves=t.curves[t.curves["epoch"].isin((0, 6))].copy())
    t.curves["probe_accuracy"] = [0.1, 0.2, 0.2, 0.5, 0.4, 0.3, np.nan, np.nan]
    rows = tables.along_training(t)
    assert rows.values.tolist() == [
        ["convolution", "continuous", 1, "2", "5.500 to 4.000", "15.0% to 35.0%", "epoch 6 of 6"],
        ["mixer", "continuous", 1, "1", "5.500 to 4.000", "40.0% to 30.0%", "epoch 0 of 6"],
    ]
    assert tables.along_training_in_words(t) == (
        "Of 3 networks, study cpu, 1 to 2 seeds, probed after every epoch: in 2 the features are better after the last "
        "epoch than after the first, and in 2 they are best after it. Spearman's correlation of loss and accuracy "
        "along training is -1.00 in the median, between -1.00 and 1.00."
    )


def test_encodings_are_compared_where_all_of_them_have_run():
    assert tables.start_by_encoding(metrics.tables({})).iloc[0, 0] == "not run"
    cells = [config.cpu(encoding=encoding) for encoding in config.GRID_ENCODINGS] + [config.cpu(block="mixer")]
    losses = dict(zip((cell.run.run_id for cell in cells), (3.5, 3.0, 2.5, 9.0), strict=True))
    found = {cell.run.run_id: made_record(cell, losses[cell.run.run_id]) for cell in cells}
    t = metrics.tables(found)
    t.learned.loc[(t.learned["stage"] == "after") & (t.learned["encoding"] == "rff"), "kept"] = [0.25, 0.5, 0.75]
    rows = tables.start_by_encoding(t).set_index("encoding")
    assert rows["loss at the end"].tolist() == ["3.500", "3.000", "2.500"]  # without the mixer, which stands alone
    assert rows.loc["random Fourier"].tolist() == ["convolution", "1", "125", "125", "0.00", "0.50", "3.000", "3.000"]


def test_a_loss_in_another_unit_has_no_change(results):
    for settings, loss in (({}, 4.0), ({"objective": "mse"}, 0.25)):
        leave_record(made_record(cell_of_study(**settings), loss))
    row = tables.arms("cpu").set_index(["setting", "network"]).loc[("objective=mse", "convolution, continuous, size 1")]
    assert row.tolist() == ["0.250 (squared error per masked sub-pixel)", "another unit", "+0.0", "1 of 3"]


# Verdicts in words


MAP = [  # as the sentence about C5 has it
    *(("conv before mixer", encoding, 1) for encoding in config.GRID_ENCODINGS),
    ("mixer before transformer-1", "continuous", -1),
    ("mixer before transformer-1", "rff", 1),
    ("mixer before transformer-1", "pix2vec", -1),
]


def study_of(**row):
    whole = {
        "id": "C5", "source": "P, section 9", "quotation": "a <b> of words", "statement": "One < two.",
        "statistic": "s", "rule": "r", "needs": "n", "verdict": "supported",
        "value": 0.5, "unit": "nats", "low": 0.25, "high": 0.75,
        "n": 9, "of": "cells", "p_holm": 0.012, "seeds": 3, "seeds_asked": 3, "seeds_needed": 2,
        "images_needed": None, "interval_kind": "95 % interval", "under": "", "note": "All & more.", "gain_note": "",
        "gain_verdict": None, "gain_value": None,
        "map": [dict(zip(("pair", "encoding", "sign"), cell, strict=True), size=1, seeds=3) for cell in MAP],
    }  # fmt: skip
    return verdicts.Study("cpu", metrics.tables({}), {"C5": whole | row})


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("C5", "To run it: <code>make study STUDY=cpu</code>"),
        ("C21", "To run it: <code>make bench</code>"),
        ("C33", "To run it: <code>make study STUDY=cpu</code>"),
    ],
)
def test_what_has_not_run_says_what_would_run_it(name, how):
    study = study_of(id=name, verdict="not run", note="Needs runs.")
    study = dataclasses.replace(study, rows={name: study.rows["C5"]})
    shown = verdicts.answers(study, name)
    assert f" {how}</p>" in shown and "Needs runs.</dd>" in shown


def test_a_verdict_is_said_with_its_evidence():
    shown = verdicts.answers(study_of(), "C5")
    seen, folded = shown.split("<details>")
    assert "<br><strong>One &lt; two.</strong></p>" in seen
    assert "The convolution has the lowest loss in all 3 settings." in seen
    assert "first rule: undetermined</span>" in seen and "Today: supported." in folded
    assert (
        "<dd>0.5 (nats); 95 % interval 0.25 to 0.75; n = 9 cells; p = 0.012 after Holm; 3 of at least 3 seeds. All "
        "&amp; more.</dd>"
    ) in folded


def test_a_sentence_that_no_longer_holds_says_so_beside_the_verdict():
    overtaken = study_of(map=study_of().rows["C5"]["map"][:-1])
    assert 'isonb-broken">No longer holds:</strong> The convolution' in verdicts.answers(overtaken, "C5")
    assert "it does not. Ours agrees.</p>" in verdicts.answers(overtaken, "C5")


def test_other_studies_and_other_images_have_the_verdict_alone():
    for name, images in (("paper", ""), ("cpu", "other images")):
        other = dataclasses.replace(study_of(), name=name, images=images)
        assert '<p class="isonb-reading">Ours agrees.</p>' in verdicts.answers(other, "C5")


def test_the_gain_stands_beside_the_level():
    shown = verdicts.answers(study_of(gain_note="Of the gain: partly."), "C5")
    assert "All &amp; more. Of the gain: partly.</dd>" in shown
    assert "All &amp; more. Of the gain: partly." in verdicts.ledger([study_of(gain_note="Of the gain: partly.")], "C5")


def test_a_claim_without_results_says_what_runs_it():
    shown = verdicts.answers(study_of(verdict="not run", value=None, note="Needs conv runs."), "C5")
    assert "Not run. To run it: <code>make study STUDY=cpu</code></p>" in shown and "Needs conv runs." in shown


def test_an_interval_of_one_cell_is_not_shown():
    assert verdicts.number(study_of(low=0.5, high=0.5, n=1, p_holm=None).rows["C5"]) == (
        "0.5 (nats); n = 1 cell; 3 of at least 3 seeds."
    )


def test_the_ledger_tells_profiles_apart_only_where_they_differ():
    same = verdicts.ledger([study_of(), study_of()], "C5")
    assert same.count("isonb-verdict isonb-supported") == 2  # in the line that is always seen, and beside the evidence
    assert "a &lt;b&gt; of words" in same
    other = verdicts.Study("paper", metrics.tables({}), study_of(verdict="undetermined").rows)
    differing = verdicts.ledger([study_of(), other], "C5")
    assert "cpu: supported" in differing and "paper: undetermined" in differing
    assert "would need 2 seeds" in differing and "would need" not in same
    unrun = verdicts.Study("paper", metrics.tables({}), study_of(verdict="not run").rows)
    beside = verdicts.ledger([study_of(), unrun], "C5").split("<details>")
    assert "not run" not in beside[0] + beside[1]  # there is nothing to say of a study without a verdict
    assert "smoke: supported" in verdicts.ledger([dataclasses.replace(study_of(), name="smoke"), unrun], "C5")
    another_n = verdicts.Study("paper", metrics.tables({}), study_of(n=6).rows)
    agreeing = verdicts.ledger([study_of(), another_n], "C5")
    summary = agreeing.split("<details>")[0]
    assert summary.count("isonb-verdict") == 1 and ">supported<" in summary  # one word where all verdicts agree
    assert "cpu: supported" in agreeing and "paper: supported" in agreeing  # the evidence of each is still told apart


def test_a_study_is_counted_in_one_sentence():
    study = study_of()
    (row,) = study.rows.values()
    assert verdicts.sentence(study) == (
        f"**cpu**, from no finished networks: of 1 claims about trained networks 1 {row['verdict']}."
    )
    rows = [row, row, {**row, "verdict": "not run"}, {**row, "seeds_asked": 0, "verdict": "not run"}]
    several = dataclasses.replace(study, rows=dict(zip("abcd", rows, strict=True)))
    assert verdicts.sentence(several).endswith(
        f"of 3 claims about trained networks 2 {row['verdict']}, 1 not run; "
        "of 1 claims that need no training none has run."
    )


# The built book


def test_a_book_without_any_result_is_built_and_says_so(without_results):
    assert "not run" in page(without_results, "book/index")
    assert '<span class="isonb-not-run">not run</span>' in page(without_results, "book/objective")
    smoke = page(without_results, "book/smoke")
    assert "Learning curves: not run." in smoke
    assert smoke.count("<p>not run</p>") == 9 * 6


def test_a_book_with_results_is_built_and_shows_them(with_results):
    log = (with_results / "build.log").read_text()
    assert log.startswith("exit 0"), log
    run_id = studies.cells("smoke")[0].run.run_id  # the only one with a page
    assert (
        f'<span class="isonb-number"><a class="reference internal" href="results/smoke/{run_id}.html">'
        f"{LOSSES['conv']:.3f}</a></span>"
    ) in page(with_results, "book/objective")
    smoke = page(with_results, "book/smoke")
    for loss in LOSSES.values():
        assert smoke.count(f">{loss:.3f}</a></p>") == 3
    assert "not run</p>" not in smoke and smoke.count("not run<") == 3  # of exercises, for their reader
    assert smoke.count("isonb-figure") == 3
    results = page(with_results, "book/results")
    assert results.count("isonb-figure") == 14  # eight of the paper, five of image-GPT, the untrained twins
    assert "make study STUDY=cpu" in results
    assert page(with_results, "book/verdict").count('<div class="isonb-claim"') == len(claims.LEDGER)
    assert "from 9 finished networks" in page(with_results, "book/index")


def test_text_of_results_is_text_on_every_page(with_results):
    shown = 0
    for name, text in pages(with_results).items():
        assert "<script>document.title" not in text, name
        assert not [tag for tag, about in Tags(text).tags if (about.get("href") or "").startswith("javascript:")], name
        shown += text.count("&lt;script&gt;document.title = 7&lt;/script&gt;")
    assert shown >= 5  # in tables, captions and sentences


def test_a_damaged_file_is_named_on_its_page_and_the_book_is_built(with_results):
    assert "cpu/damaged.json cannot be read" in page(with_results, "book/verdict")
    training = page(with_results, "book/training_tables")
    assert training.count("benchmarks/steps.json cannot be read") == 2  # in the place of the table and of the machine


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        ("smoke::baselines.linear_filter:.3f", "not recorded"),
        ("smoke::probe.penalties.0", "not recorded"),
        ("smoke::probe.layers.1.test_accuracy:.0%", "25%"),
        ("smoke::data.name", "a b"),
    ],
)
def test_a_number_may_be_missing_from_a_record_and_is_one_line(results, key, shown):
    run = made_record(config.smoke())
    leave_record(run.model_copy(update={"data": run.data.model_copy(update={"name": "a\n\x00b"})}))
    assert numbers.number(key) == shown


def test_an_executed_cell_is_a_page_that_nobody_executes_again(with_results):
    run_id = studies.cells("smoke")[0].run.run_id
    shown = page(with_results, f"book/results/smoke/{run_id}")
    assert "said by the executed cell" in shown
    assert f'href="results/smoke/{run_id}.html"' in page(with_results, "book/cells")
    assert "A cell that ran" not in shown  # the heading of the template, which every executed cell shares
    assert "<h1>Convolution, continuous, size 1, seed 0, study smoke<" in shown
    assert f"Loss: <strong>{LOSSES['conv']:.3f}</strong> nats per masked sub-pixel" in shown
    assert "left-prev" not in shown and "right-next" not in shown
    for name, text in pages(with_results).items():
        contents = text.partition('<nav class="bd-links')[2].partition("</nav>")[0]
        assert "All runs" in contents and run_id not in contents, name
    assert "The notebook as it ran" not in (with_results / "_build" / "html" / "searchindex.js").read_text()


@pytest.fixture
def one_page(tmp_path, monkeypatch):
    """A book of one page with the given text, and results of its own."""
    folder = copy_sources(tmp_path / "sources")
    for path in (folder / "book").glob("*.md"):
        path.unlink()
    (folder / "_toc.yml").write_text("format: jb-book\nroot: book/index\n")
    monkeypatch.setenv("ISONB_RESULTS", str(folder / "book" / "results"))

    def write(text):
        (folder / "book" / "index.md").write_text(
            f"# Title\n\n{text}\n\n{{cite}}`chen2020`\n\n```{{bibliography}}\n```\n"
        )
        return folder

    return write


def test_a_changed_result_changes_the_page(one_page):
    folder = one_page("Loss **{num}`smoke:block=mixer:training.validation_loss:.2f`**")
    for loss, text in ((None, "not run"), (4.125, "4.12"), (3.875, "3.88")):
        if loss:
            leave_record(made_record(config.smoke(block="mixer"), loss))
        built = build(folder)  # not from scratch: the page itself must notice
        assert built.returncode == 0, built.stdout + built.stderr
        assert f">{text}<" in page(folder, "book/index")


def test_a_wrong_key_fails_the_build(one_page):
    built = build(one_page("{num}`smoke::training.loss`"))
    assert built.returncode != 0
    assert "'loss' leads nowhere" in built.stdout + built.stderr


def test_every_code_cell_of_every_chapter_has_run(with_results):
    executed = sorted((with_results / "_build" / "jupyter_execute").rglob("*.ipynb"))
    assert len(executed) >= 8
    for path in executed:
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "code":
                assert cell.execution_count is not None, path
                assert not [output for output in cell.outputs if output.output_type == "error"], path


def test_no_link_and_no_button_is_dead(with_results):
    html = with_results / "_build" / "html"
    tags = {path: Tags(path.read_text(encoding="utf-8")).tags for path in sorted(html.rglob("*.html"))}
    names = {path: {attributes.get("id") for _, attributes in found} for path, found in tags.items()}
    followed = 0
    for path, found in tags.items():
        if "_static" in path.parts:
            continue
        for tag, attributes in found:
            address = urlsplit(attributes.get("href") or "")
            if tag != "a" or address.scheme or not (address.path or address.fragment):
                continue
            target = (path.parent / unquote(address.path)).resolve() if address.path else path
            assert target.is_file(), f"{path.name} links to {attributes['href']}"
            if address.fragment and target.suffix == ".html":
                assert unquote(address.fragment) in names[target], f"{path.name} links to {attributes['href']}"
            followed += 1
    assert followed > 1000


def test_every_chapter_can_be_downloaded_as_text_and_as_the_executed_notebook(with_results):
    sources = with_results / "_build" / "html" / "_sources" / "book"
    offered = set(re.findall(r'href="../_sources/book/(\w+\.\w+)"', "".join(pages(with_results).values())))
    assert {f"{path.stem}.md" for path in (with_results / "book").glob("*.md")} <= offered
    assert "blocks.ipynb" in offered
    cells = nbformat.read(sources / "blocks.ipynb", as_version=4).cells
    assert any(cell.get("outputs") for cell in cells)


def test_buttons_to_the_repository_wait_for_its_address(with_results, one_page, monkeypatch):
    services = ("mybinder.org", "colab.research.google.com", "repository-button", "issues/new")
    without = "".join(pages(with_results).values())
    assert not any(service in without for service in services)

    folder = one_page("Words")
    smoke = next((with_results / "book" / "results" / "smoke").glob("*.ipynb"))
    monkeypatch.setenv("ISONB_RESULTS", str(folder / "book" / "results"))
    committed, mine = (leave_record(made_record(cell), smoke.read_bytes()) for cell in (config.cpu(), config.smoke()))
    (folder / "book" / "cells.md").write_text("# All runs", encoding="utf-8")
    (folder / "_toc.yml").write_text(
        "format: jb-book\nroot: book/index\nchapters:\n  - file: book/cells\n  - glob: book/results/*/*\n",
        encoding="utf-8",
    )
    config_file = folder / "_config.yml"
    settings = config_file.read_text(encoding="utf-8")
    assert settings.count('  url: ""') == 1
    config_file.write_text(
        settings.replace('  url: ""', "  url: https://github.com/someone/something"), encoding="utf-8"
    )
    built = build(folder)
    assert built.returncode == 0, built.stdout + built.stderr
    chapter, cell, own = (
        page(folder, f"book/{name}")
        for name in ("index", f"results/cpu/{committed.stem}", f"results/smoke/{mine.stem}")
    )
    place = f"book/results/cpu/{committed.stem}.ipynb"
    assert f"https://mybinder.org/v2/gh/someone/something/main?urlpath=lab/tree/{place}" in cell
    assert f"https://colab.research.google.com/github/someone/something/blob/main/{place}" in cell
    for text in (chapter, own):  # Binder and Colab open no chapter's text, and no cell that is in nobody's repository
        assert 'href="https://github.com/someone/something"' in text
        assert "mybinder.org" not in text
        assert "colab.research" not in text


def test_the_first_page_leads_into_the_book(with_results):
    text = page(with_results, "index")
    assert re.search(r'http-equiv="Refresh" content="0; url=book/index.html"', text)
    assert "On the Bias Against" in page(with_results, "book/index")


def test_no_page_loads_anything_from_elsewhere(with_results):
    foreign = re.compile(r"^(https?:)?//")
    for name, text in pages(with_results).items():
        for tag, attributes in Tags(text).tags:
            loaded = [attributes.get("src"), attributes.get("href") if tag == "link" else None]
            for address in filter(None, loaded):
                assert not foreign.match(address), f"{name}: <{tag}> loads {address}"


def test_every_image_is_described_and_headings_are_in_order(with_results):
    for name, text in pages(with_results).items():
        tags = Tags(text).tags
        assert all(attributes.get("alt") for tag, attributes in tags if tag == "img"), name
        article = text[text.index("<article") : text.index("</article>")]
        levels = [int(tag[1]) for tag, _ in Tags(article).tags if re.fullmatch("h[1-6]", tag)]
        assert levels[0] == 1, name
        assert all(after <= before + 1 for before, after in itertools.pairwise(levels)), (name, levels)
