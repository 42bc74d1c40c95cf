"""All runs on one page: each stands there once, has an address, and can be filtered, sorted, named and opened."""

import hashlib
import re
import time

import nbformat
import pytest
from built_book import HOSTILE
from chromium import EXECUTABLE, Chromium
from made_records import leave_record, made_record

from isonb import config, places, records
from isonb.evidence import selection
from isonb.pages import chart, runs

STATIC = places.PROJECT / "book" / "_static"
SORTABLE = "a887cf42ad5b69673364c529afe8500b31dfbe3e78c2e623bee6430fc69b990f"  # sortable-tablesort 4.1.7


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "REFERENCE", tmp_path / "ours")
    monkeypatch.setenv("ISONB_RESULTS", str(tmp_path / "results"))
    return tmp_path


def ran():
    cell = nbformat.v4.new_code_cell("print()", execution_count=1)
    return nbformat.writes(nbformat.v4.new_notebook(cells=[cell])).encode()


def test_every_run_stands_there_with_its_page_where_it_has_one(results, monkeypatch):
    shown = leave_record(made_record(config.smoke()), ran())
    leave_record(made_record(config.cpu(block="mixer")))
    leave_record(made_record(config.smoke(seed=3))).write_text("{")
    monkeypatch.setenv("ISONB_RESULTS", str(results / "ours"))
    leave_record(made_record(config.smoke(), 3.5))  # there is one of the reader's own
    leave_record(made_record(config.smoke(seed=1)))
    monkeypatch.setenv("ISONB_RESULTS", str(results / "results"))
    every, [unreadable] = runs.every()
    assert [(run.title, run.page, run.is_ours) for run in every] == [
        ("Convolution, continuous, size 1, seed 0, study smoke", f"elsewhere/smoke/{shown.stem}.html", False),
        ("Convolution, continuous, size 1, seed 1, study smoke", "", True),
        ("Mixer, continuous, size 1, seed 0, study cpu", "", False),
    ]
    assert "cannot be read as a result" in unreadable


def test_a_selection_has_an_address_and_a_link():
    assert selection.address(block="conv", size=[1, 3]) == "cells.html?block=conv&size=1&size=3"
    assert selection.address(changed="epochs=24 warmup_epochs=1.0").endswith("?changed=epochs%3D24+warmup_epochs%3D1.0")
    with pytest.raises(ValueError, match=r"Runs cannot be chosen by 'depth': use study, block, .* or run\."):
        selection.address(depth=3)


def texts(row):
    return [re.sub("<[^>]*>", "", cell) for cell in re.findall(r"<t[hd].*?</t[hd]>", row)]


def test_the_table_says_what_each_run_is_and_what_came_out_of_it():
    run = made_record(config.cpu(block="transformer", encoding="rff", learning_rate=0.003), 3.4567, 0.5)
    twin = run.probe.model_dump(include={"layers", "best_layer", "test_accuracy", "seconds"})
    run = run.model_copy(
        update={"probe": type(run.probe)(**run.probe.model_dump(exclude={"untrained"}), untrained=twin)}
    )
    squares = made_record(config.cpu(objective="mse"), 0.25)
    head, row, other = re.findall("<tr.*?</tr>", runs.table([runs.Run(run, "a/b c.html"), runs.Run(squares, "", True)]))
    assert texts(head) == list(runs.COLUMNS.values())
    assert texts(row) == [
        "Transformer (1 head), random Fourier, size 1, learning rate 0.003, seed 0, study cpu", "cpu", "1",
        "random Fourier", "1", "learning rate 0.003", "0", "18", "photos", "cpu", "3.457", "50.0%", "50.0%",
    ]  # fmt: skip
    assert 'href="a/b%20c.html"' in row and 'data-value="learning_rate=0.003"' in row and 'data-value="rff"' in row
    assert texts(other)[1:3] == ["cpu (ours)", ""]
    assert texts(other)[-3:] == ["0.250 (squared error per masked sub-pixel)", "", "25.0%"]
    assert "href" not in other


def test_sets_of_images_of_the_same_name_are_told_apart():
    one, other = (made_record(config.smoke(seed=seed)) for seed in (0, 1))
    larger = other.model_copy(update={"data": other.data.model_copy(update={"train": 160, "sha256": {"a": "0" * 64}})})
    assert [texts(row)[8] for row in re.findall("<tr.*?</tr>", runs.table(map(runs.Run, (one, larger))))[1:]] == [
        "photos, 80/20/40 images", "photos, 160/20/40 images",
    ]  # fmt: skip


def test_points_stand_at_their_loss_and_accuracy():
    losses = {0: (3.0, 0.25), 1: (3.5, 0.5), 2: (4.0, 0.375)}
    every = [runs.Run(made_record(config.smoke(seed=seed), *result)) for seed, result in losses.items()]
    every.append(runs.Run(made_record(config.smoke(objective="mse"), 0.25)))
    of_others = made_record(config.cpu(), 3.25)
    of_others = of_others.model_copy(update={"data": of_others.data.model_copy(update={"name": "cifar10"})})
    every.insert(0, runs.Run(of_others))
    usual, others = chart.page(every).split("<details>")
    assert 'bottom:100.00%">50 %</i>' in usual
    # ticks from 3 to 4 and from 25 to 50
    assert re.findall(r'style="left:([\d.]+)%;bottom:([\d.]+)%"', usual) == [
        ("0.00", "0.00"), ("50.00", "100.00"), ("100.00", "50.00"),
    ]  # fmt: skip
    of_images, of_unit = others.split("</figure>")[:2]
    assert of_images.count("isonb-point") == 1 and "nats per masked sub-pixel, on cifar10</figcaption>" in of_images
    assert of_unit.count("isonb-point") == 1 and "squared error per masked sub-pixel, on photos" in of_unit
    assert 'title="Convolution, continuous, size 1, seed 1, study smoke: loss 3.500, accuracy 50.0%"' in usual
    assert chart.page([]) == "<p>not run</p>"


def test_text_of_results_is_text():
    run = made_record(config.smoke())
    run = run.model_copy(update={
        "data": run.data.model_copy(update={"name": HOSTILE}),
        "environment": run.environment.model_copy(update={"device": HOSTILE}),
    })  # fmt: skip
    shown = chart.page([runs.Run(run)])
    assert "<script" not in shown and shown.count("&lt;script&gt;") == 4


def test_the_library_is_the_one_that_was_published():
    assert hashlib.sha256((STATIC / "scripts" / "sortable.min.js").read_bytes()).hexdigest() == SORTABLE


# In a browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    chromium = Chromium(tmp_path_factory.mktemp("chromium"))
    yield chromium
    chromium.close()


def page_of(folder, every):
    """A page as the book has it, from file://, with the scripts in its head."""
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    head += f'<link rel="stylesheet" href="{(STATIC / "runs.css").as_uri()}">'
    for script in ("sortable.min.js", "runs.js"):
        head += f'<script defer src="{(STATIC / "scripts" / script).as_uri()}"></script>'
    path = folder / "cells.html"
    path.write_text(f'<!doctype html><html lang="en"><head>{head}</head><body>{chart.page(every)}</body></html>')
    return path.as_uri()


@pytest.fixture
def address(tmp_path):
    """Four runs: losses 3, 3.5, 4 and, in another unit, 0.25; the second has a page."""
    of_conv = [runs.Run(made_record(config.smoke(encoding="pix2vec"), 4.0)), runs.Run(made_record(config.smoke(), 3.0))]
    page = tmp_path / "one.html"
    page.write_text("<title>the page of a run</title>")
    mixer = runs.Run(made_record(config.smoke(block="mixer"), 3.5, 0.5), page.name)
    return page_of(tmp_path, [*of_conv, mixer, runs.Run(made_record(config.smoke(objective="mse"), 0.25))])


in_browser = pytest.mark.skipif(EXECUTABLE is None, reason="no Chromium is installed")
SHOWN = """[...document.querySelectorAll(".isonb-runs-table tbody tr")].filter(row => row.checkVisibility())
    .map(row => parseFloat(row.cells[10].textContent))"""
POINTS = '[...document.querySelectorAll(".isonb-point")].filter(point => point.checkVisibility()).length'


def press(browser, key):
    for kind in ("keyDown", "keyUp"):
        browser.send("Input.dispatchKeyEvent", type=kind, key=key, code=key, text="\r" if key == "Enter" else "")


@in_browser
def test_filters_act_on_rows_and_points_and_are_kept_in_the_address(browser, address):
    browser.open(f"{address}?block=conv&encoding=continuous")
    assert browser.evaluate(SHOWN) == [3.0, 0.25]
    browser.evaluate("document.querySelector('details').open = true")
    assert browser.evaluate(POINTS) == 2
    browser.evaluate("""
        const select = [...document.querySelectorAll("label")].find(label => label.textContent.startsWith("encoding"));
        select.querySelector("select").value = "pix2vec";
        select.querySelector("select").dispatchEvent(new Event("change"));
    """)
    assert browser.evaluate(SHOWN) == [4.0]
    assert browser.evaluate(POINTS) == 1
    assert browser.evaluate("location.search") == "?block=conv&encoding=pix2vec"
    assert browser.evaluate("document.querySelector('.isonb-count').textContent") == "1 of 4 runs"
    browser.evaluate("[...document.querySelectorAll('.isonb-filters > button')].at(-1).click()")
    assert browser.evaluate(SHOWN) == [4.0, 3.0, 3.5, 0.25]
    assert browser.evaluate("location.search") == ""
    browser.open(f"{address}?encoding=pix2vec&encoding=rff&nonsense=1")
    assert browser.evaluate(SHOWN) == [4.0]
    browser.open(f"{address}?run={config.smoke(block='mixer').run.run_id}")
    assert browser.evaluate(SHOWN) == [3.5]
    assert browser.errors == []


@in_browser
def test_a_column_is_sorted_by_its_heading_also_by_key(browser, address):
    browser.open(address)
    wait = "new Promise(done => setTimeout(done, 100)).then(() => true)"
    browser.evaluate("document.querySelector('th[data-name=loss] button').focus()")
    press(browser, "Enter")
    browser.evaluate(wait)
    assert browser.evaluate(SHOWN) == [0.25, 3.0, 3.5, 4.0]
    assert browser.evaluate("document.querySelector('th[data-name=loss]').ariaSort") == "ascending"
    press(browser, "Enter")
    browser.evaluate(wait)
    assert browser.evaluate(SHOWN) == [4.0, 3.5, 3.0, 0.25]


@in_browser
def test_points_are_named_and_opened_by_pointer_tap_and_key(browser, address):
    readout = "document.querySelector('.isonb-readout').textContent"
    mixer = "Mixer, continuous, size 1, seed 0, study smoke: loss 3.500, accuracy 50.0%"
    browser.open(address)
    assert browser.evaluate("document.querySelectorAll('.isonb-point[tabindex=\"0\"]').length") == 2  # in two charts
    browser.evaluate("document.querySelector('.isonb-point[tabindex=\"0\"]').focus()")  # of the least loss
    press(browser, "ArrowRight")
    assert browser.evaluate(readout) == mixer
    assert browser.evaluate("document.activeElement.ariaLabel") == mixer
    press(browser, "Enter")
    time.sleep(0.5)  # not within the page, which is left meanwhile
    assert browser.evaluate("document.title") == "the page of a run"

    browser.open(address)
    box = """(() => { const { x, y } = document.querySelector('[href="one.html"].isonb-point').getBoundingClientRect();
        return [x, y] })()"""
    x, y = browser.evaluate(box)  # a few pixels off its centre
    browser.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    assert browser.evaluate(readout) == mixer

    browser.open(address, width=390)
    for title in ("", "the page of a run"):  # the first tap names it
        x, y = browser.evaluate(box)
        browser.send("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x, "y": y}])
        browser.send("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
        time.sleep(0.5)
        assert browser.evaluate("document.title") == title


@in_browser
def test_a_page_of_three_hundred_runs_is_light_and_has_four_columns_on_a_phone(browser, tmp_path):
    settings = [{"learning_rate": 0.001 * (1 + rate), "seed": seed} for rate in range(10) for seed in range(30)]
    every = [
        runs.Run(made_record(config.cpu(**one), 3 + one["seed"] / 50), "results/cpu/page.html") for one in settings
    ]
    assert len(chart.page(every).encode()) < 500_000  # of 1 MB, of which the theme takes some 350 kB
    browser.open(page_of(tmp_path, every), width=390)
    columns = "[...document.querySelectorAll('thead th')].filter(head => head.checkVisibility())"
    assert browser.evaluate(f"{columns}.map(head => head.dataset.name)") == ["block", "loss", "untrained", "trained"]
