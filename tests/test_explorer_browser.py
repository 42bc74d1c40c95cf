"""The explorer as readers meet it: in a page without kernel or network, and in a JupyterLab with both."""

import base64
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import matplotlib
import numpy as np
import pytest
from chromium import EXECUTABLE, Chromium

from isonb import places
from isonb.pages import explorer

pytestmark = [pytest.mark.slow, pytest.mark.skipif(EXECUTABLE is None, reason="needs a Chromium on the PATH")]
COLOURS = matplotlib.colormaps[explorer.COLOURS](np.arange(256), bytes=True)[:, :3].astype(int)
ARROWS = {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "Home": 36, "End": 35}


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Chromium(tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.close()


@pytest.fixture
def page(browser, tmp_path):
    """A page on the disk with two explorers, opened on a telephone's width; calling it opens it otherwise."""
    file = tmp_path / "page.html"

    def open_page(attributes: str = "", **how):
        file.write_text(
            f'<!doctype html><html lang="en" {attributes}><meta charset="utf-8"><title>Two explorers</title>'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<body>{explorer.page()}<p>between</p>{explorer.page()}</body></html>",
            encoding="utf-8",
        )
        browser.open(file.as_uri(), **{"width": 360, "height": 1500, **how})
        return browser

    open_page()
    return open_page


def in_explorer(browser, body, number=0):
    """What the body of a function of `root`, one explorer of the page, returns."""
    return browser.evaluate(f"((root) => {{ {body} }})(document.querySelectorAll('.sigma-explorer')[{number}])")


def set_control(browser, name, value, number=0):
    body = f"const control = root.querySelector('[name={name}]'); control.value = {json.dumps(value)};"
    for kind in ("input", "change"):
        body += f"control.dispatchEvent(new Event('{kind}', {{ bubbles: true }}));"
    in_explorer(browser, body, number)


def drawn(browser, selector=".sigma-map", number=0):
    """The colours of a canvas, height x width x 3."""
    body = (
        f"const canvas = root.querySelector('{selector}'), {{ width, height }} = canvas;"
        + """
        const bytes = canvas.getContext('2d').getImageData(0, 0, width, height).data;
        return [width, height, btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(''))];"""
    )
    width, height, data = in_explorer(browser, body, number)
    return np.frombuffer(base64.b64decode(data), np.uint8).reshape(height, width, 4)[:, :, :3].astype(int)


def colours_of(similarity_VV):
    return COLOURS[np.clip(np.rint((similarity_VV + 1) * 127.5), 0, 255).astype(int)]


def numbers(browser, number=0):
    return in_explorer(browser, "return root.querySelector('.sigma-numbers').textContent", number)


def centre(browser, selector, share=0.5):
    """The place in the window of a point of an element, a share of its width from its left edge."""
    box = browser.evaluate(
        f"(() => {{ const e = document.querySelector({json.dumps(selector)}); e.scrollIntoView({{ block: 'center' }});"
        " const b = e.getBoundingClientRect(); return [b.left, b.top, b.width, b.height]; })()"
    )
    return {"x": box[0] + share * box[2], "y": box[1] + box[3] / 2}


def press(browser, key):
    for kind in ("rawKeyDown", "keyUp"):
        browser.send("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=ARROWS[key])


def assert_shows(browser, setting, number=0):
    """The numbers are Python's; so is the drawn matrix, up to a step of the colour table where rounding decides."""
    expected = explorer.measure(*setting)
    assert numbers(browser, number) == str(expected)
    here, there = drawn(browser, number=number), colours_of(expected.similarity_VV)
    assert np.abs(here - there).max() <= np.abs(np.diff(COLOURS, axis=0)).max()
    assert (here != there).any(axis=2).mean() < 0.001


@pytest.mark.parametrize(
    ("exponent", "k", "seed", "value_range"),
    [(0, 128, 0, "symmetric"), (-1, 8, 3, "symmetric"), (1, 64, 1, "unit"), (2, 256, 9, "unit")],
)
def test_the_drawn_matrix_is_that_of_numpy(page, exponent, k, seed, value_range):
    browser = page()
    for name, value in (("k", k), ("seed", seed), ("valueRange", value_range), ("sigma", exponent)):
        set_control(browser, name, str(value))
    assert_shows(browser, ("rff", 10.0**exponent, k, seed, value_range))
    assert browser.errors == []


@pytest.mark.parametrize("encoding", ["one-hot", "continuous"])
def test_other_encodings_draw_theirs_and_have_no_frequencies_to_set(page, encoding):
    browser = page()
    set_control(browser, "encoding", encoding)
    assert_shows(browser, (encoding, 1.0, 128, 0, "symmetric"))
    disabled = in_explorer(
        browser, "return [...root.querySelectorAll('[name]:disabled')].map((control) => control.name)"
    )
    assert set(disabled) == {"sigma", "preset", "k", "seed", "valueRange"}


def test_features_of_the_photograph_are_drawn(page):
    browser = page()
    photo = explorer.photograph()
    assert (drawn(browser, ".sigma-pictures figure:nth-child(1) canvas") == photo).all()
    _, feature_V = explorer.measure("rff", 1.0, 128, 0, "symmetric").pictured[1]
    shown = drawn(browser, ".sigma-pictures figure:nth-child(3) canvas")
    assert np.abs(shown - (feature_V[photo] + 1) * 127.5).max() < 0.51


def test_the_profile_is_drawn_with_its_expectation_and_half_width(page):
    browser = page()
    expected = explorer.measure("rff", 1.0, 128, 0, "symmetric")
    for name, values in (("drawn", expected.profile_V), ("expected", expected.expected_V)):
        points = in_explorer(browser, f"return root.querySelector('.{name}').getAttribute('points')")
        x_V, y_V = np.array([point.split(",") for point in points.split()], float).T
        assert np.corrcoef(x_V, np.arange(256))[0, 1] > 0.99999
        assert np.corrcoef(y_V, values)[0, 1] < -0.99999  # y points down
    mark = in_explorer(browser, "return root.querySelector('.mark').getAttribute('points').split(/[ ,]/)[0]")
    assert float(mark) == pytest.approx(x_V[expected.half_width], abs=0.1)


def test_two_explorers_in_a_page_do_not_disturb_each_other(page):
    browser = page()
    set_control(browser, "sigma", "1", number=1)
    assert_shows(browser, ("rff", 1.0, 128, 0, "symmetric"), number=0)
    assert_shows(browser, ("rff", 10.0, 128, 0, "symmetric"), number=1)
    ids = browser.evaluate("[...document.querySelectorAll('[id]')].map((e) => e.id)")
    assert len(ids) == len(set(ids)) == 12
    assert browser.evaluate("document.querySelectorAll('.sigma-controls').length") == 2


def test_the_sliders_obey_keyboard_mouse_and_finger(page):
    browser = page()
    browser.evaluate("document.querySelector('[name=sigma]').focus()")
    press(browser, "ArrowRight")
    press(browser, "ArrowRight")
    assert_shows(browser, ("rff", 10**0.1, 128, 0, "symmetric"))
    press(browser, "End")
    assert_shows(browser, ("rff", 100.0, 128, 0, "symmetric"))

    slider = "[name=sigma]"
    start, end = (centre(browser, slider, share) for share in (0.97, 0.3))
    browser.send("Input.dispatchMouseEvent", type="mousePressed", button="left", clickCount=1, **start)
    for share in (0.8, 0.5, 0.3):
        browser.send("Input.dispatchMouseEvent", type="mouseMoved", button="left", **centre(browser, slider, share))
    exponent = float(in_explorer(browser, "return root.querySelector('[name=sigma]').value"))
    assert -1.2 < exponent < -0.5
    assert_shows(browser, ("rff", 10**exponent, 128, 0, "symmetric"))  # while the button is still down
    spoken = "return root.querySelector('[role=status]').textContent"
    assert in_explorer(browser, spoken) != numbers(browser)
    browser.send("Input.dispatchMouseEvent", type="mouseReleased", button="left", clickCount=1, **end)
    assert in_explorer(browser, spoken) == numbers(browser)

    browser.send("Input.dispatchTouchEvent", type="touchStart", touchPoints=[centre(browser, "[name=k]")])
    browser.send("Input.dispatchTouchEvent", type="touchMove", touchPoints=[centre(browser, "[name=k]", 0.98)])
    browser.send("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
    k = int(in_explorer(browser, "return root.querySelector('[name=k]').value"))
    assert k > 200
    assert_shows(browser, ("rff", 10**exponent, k, 0, "symmetric"))


def test_a_button_sets_one_of_the_papers_sigmas(page):
    browser = page()
    for sigma in (0.1, 10.0, 1.0):
        point = centre(browser, f"[name=preset][value='{sigma:g}']")
        for kind in ("mousePressed", "mouseReleased"):
            browser.send("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **point)
        assert_shows(browser, ("rff", sigma, 128, 0, "symmetric"))
        pressed = "return [...root.querySelectorAll('[aria-pressed=true]')].map((button) => button.value)"
        assert in_explorer(browser, pressed) == [f"{sigma:g}"]
        assert in_explorer(browser, "return root.querySelector('output').textContent") == f"{sigma:g}"
        assert in_explorer(browser, "return root.querySelector('[role=status]').textContent") == numbers(browser)
    assert_shows(browser, ("rff", 1.0, 128, 0, "symmetric"), number=1)  # the other explorer has buttons of its own


def test_the_buttons_stand_below_the_places_of_the_slider_that_they_set(page):
    browser = page()
    for sigma, share in ((0.1, 0.25), (1, 0.5), (10, 0.75)):
        slider, button = (centre(browser, name) for name in ("[name=sigma]", f"[name=preset][value='{sigma}']"))
        width = browser.evaluate("document.querySelector('[name=sigma]').clientWidth")
        assert button["x"] - slider["x"] == pytest.approx((width - 16) * (share - 0.5), abs=2)  # a thumb is 16 wide


def test_a_link_keeps_the_state_of_its_explorer(page):
    browser = page()
    for name, value in (("k", "64"), ("seed", "7"), ("valueRange", "unit"), ("sigma", "0.35")):
        set_control(browser, name, value, number=1)
    address = in_explorer(browser, "return root.querySelector('.sigma-link').href", number=1)
    browser.open(address, width=360, height=600)
    assert_shows(browser, ("rff", 10**0.35, 64, 7, "unit"), number=1)
    assert_shows(browser, ("rff", 1.0, 128, 0, "symmetric"), number=0)
    top = "return root.getBoundingClientRect().top"
    assert -1 <= in_explorer(browser, top, number=1) <= 80  # the reader is led to it
    assert browser.errors == []


@pytest.mark.parametrize(
    ("query", "setting"),
    [
        ("explorer=0&sigma=-3&k=many&seed=x&encoding=<b>&valueRange=other", ("rff", 1.0, 128, 0, "symmetric")),
        ("explorer=0&encoding=one-hot&sigma=1e9&k=1e9", ("one-hot", 100.0, 256, 0, "symmetric")),
        ("explorer=2&sigma=10", ("rff", 1.0, 128, 0, "symmetric")),
    ],
)
def test_what_makes_no_sense_in_a_link_is_left_out(page, tmp_path, query, setting):
    browser = page()
    browser.open(f"{(tmp_path / 'page.html').as_uri()}?{query}", width=360)
    assert_shows(browser, setting)
    assert browser.errors == []


def test_on_a_telephone_the_slider_the_curve_and_the_pictures_are_in_sight_together(page):
    browser = page(width=390, height=844)
    boxes = [
        in_explorer(
            browser, f"const b = root.querySelector('{name}').getBoundingClientRect(); return [b.top, b.bottom]"
        )
        for name in ("[name=sigma]", ".sigma-map", ".sigma-profile", ".sigma-pictures")
    ]
    assert max(bottom for _, bottom in boxes) - min(top for top, _ in boxes) < 844 - 100  # the theme's bar and a thumb


def test_a_screen_reader_hears_names_values_and_results(page):
    browser = page()
    browser.send("Accessibility.enable")
    nodes = browser.send("Accessibility.getFullAXTree")["nodes"]
    heard = {(node["role"]["value"], node["name"]["value"]) for node in nodes if "name" in node}
    for control in (
        ("slider", "σ, spread of the frequencies"),
        ("slider", "k, frequencies"),
        ("spinbutton", "Seed"),
        ("combobox", "Encoding"),
        ("combobox", "Scaling of p"),
    ):
        assert control in heard
    summary = numbers(browser)
    assert ("image", f"Similarity of all pairs of pixel values. {summary}") in heard
    assert ("image", f"Mean similarity against distance. {summary}") in heard
    spoken = "return root.querySelector('[role=status]').textContent"
    set_control(browser, "sigma", "1")
    assert in_explorer(browser, spoken) == numbers(browser) != summary
    assert (
        in_explorer(browser, "return root.querySelector('[name=sigma]').getAttribute('aria-valuetext')") == "sigma 10"
    )
    assert in_explorer(browser, "return root.querySelector('[name=k]').getAttribute('aria-valuetext')") == (
        "128 frequencies"
    )


@pytest.mark.parametrize("width", [360, 390, 768, 1440])
def test_the_page_never_scrolls_sideways_and_asks_for_nothing(page, width):
    browser = page(width=width)
    assert browser.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert [url.split(":")[0] for url in browser.requests] == ["file"]
    assert browser.errors == []


@pytest.mark.parametrize(
    ("theme", "dark_system", "dark_page"),
    [("", False, False), ("", True, True), ("light", True, False), ("dark", False, True)],
)
def test_ink_follows_the_theme_or_else_the_system(page, theme, dark_system, dark_page):
    browser = page(f'data-theme="{theme}"' if theme else "", dark=dark_system)
    ink = in_explorer(browser, "return getComputedStyle(root).color.match(/\\d+/g).map(Number)")
    assert (min(ink) > 200) == dark_page
    assert (max(ink) < 60) == (not dark_page)


def test_a_page_without_scripts_says_what_is_missing(page):
    browser = page()
    browser.send("Emulation.setScriptExecutionDisabled", value=True)
    try:
        text = page().send("DOM.getOuterHTML", nodeId=browser.send("DOM.getDocument", depth=-1)["root"]["nodeId"])
    finally:
        browser.send("Emulation.setScriptExecutionDisabled", value=False)
    assert "needs JavaScript in a page, or a kernel in JupyterLab" in text["outerHTML"]
    assert 'class="sigma-controls"' not in text["outerHTML"].split("<script")[0]


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The address of a running JupyterLab whose one notebook is the explorer's."""
    folder = tmp_path_factory.mktemp("lab")
    shutil.copy(places.PROJECT / "notebooks" / "explorer.ipynb", folder)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex()
    options = {
        "ServerApp.ip": "127.0.0.1",
        "ServerApp.port": port,
        "ServerApp.port_retries": 0,
        "ServerApp.root_dir": folder,
        "ServerApp.allow_root": True,
        "ServerApp.open_browser": False,
        "IdentityProvider.token": token,
        "LabApp.expose_app_in_browser": True,
    }
    server = subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", *(f"--{name}={value}" for name, value in options.items())],
        env={**os.environ, **{f"JUPYTER_{kind}_DIR": str(folder / kind) for kind in ("CONFIG", "DATA", "RUNTIME")}},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(lambda: answers(f"{address}/api?token={token}"))
        yield f"{address}/lab/tree/explorer.ipynb?token={token}"
    finally:
        server.terminate()
        server.wait(30)


def answers(url):
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=60):
            return True
    except OSError:
        return False


def wait_for(condition, seconds=300):
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "JupyterLab did not get there in time"
        time.sleep(0.2)
    return value


def test_in_jupyterlab_python_answers_the_sliders(browser, lab):
    browser.send("Page.bringToFront")  # a page in the background is not drawn, and JupyterLab waits for that
    browser.open(lab)
    kernel = "globalThis.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status"
    wait_for(lambda: browser.evaluate(f"document.querySelector('.jp-CodeCell') && {kernel}") == "idle")
    browser.evaluate("jupyterapp.commands.execute('notebook:run-all-cells').then(() => true)")

    shown = "document.querySelector('.jp-OutputArea .widget-html b')?.textContent"
    first, second = (str(explorer.measure("rff", sigma, 128, 0, "symmetric")) for sigma in (1.0, 10**0.1))
    assert first != second
    wait_for(lambda: browser.evaluate(shown) == first)
    assert browser.evaluate("document.querySelector('.jp-OutputArea .sigma-explorer')") is None

    browser.evaluate("document.querySelector('.jp-OutputArea [role=slider]').focus()")
    press(browser, "ArrowRight")
    press(browser, "ArrowRight")
    wait_for(lambda: browser.evaluate(shown) == second)
    pictures = "[...document.querySelectorAll('.jp-OutputArea img')].map((e) => [e.alt, e.complete, e.naturalWidth])"
    whole, photo, *features_of_it = browser.evaluate(pictures)
    assert whole == [f"Similarity map and profile. {second}", True, 840]
    assert photo == ["photograph", True, 48]
    assert [name[:6] for name, *_ in features_of_it] == ["sin, β", "cos, β"] * 3

    ten = str(explorer.measure("rff", 10.0, 128, 0, "symmetric"))
    browser.evaluate(
        "[...document.querySelectorAll('.jp-OutputArea button')].find((e) => e.innerText == 'σ = 10').click()"
    )
    wait_for(lambda: browser.evaluate(shown) == ten)
