"""The theme's style sheets lose the rules of what no page has, and only those."""

import pytest

from isonb.pages import stylesheets

USED = {"card", "open"}


@pytest.mark.parametrize(
    ("css", "kept"),
    [
        (".card{color:red}", ".card{color:red}"),
        (".alert{color:red}", ""),
        (".alert,.card a{color:red}", ".card a{color:red}"),
        (".card .alert{color:red}", ""),
        (".card:not(.alert){color:red}", ".card:not(.alert){color:red}"),
        ("h1{margin:0}", "h1{margin:0}"),
        ("h1:is(.alert, .card){margin:0}", "h1:is(.alert, .card){margin:0}"),
        (":root{--x:url(a.svg)}", ":root{--x:url(a.svg)}"),
        ("@media print{.alert{top:0}.open{top:1px}}", "@media print{.open{top:1px}}"),
        ("@media print{.alert{top:0}}", ""),
        ("@keyframes fade{from{opacity:0}to{opacity:1}}", "@keyframes fade{from{opacity:0}to{opacity:1}}"),
        ("@font-face{font-family:A}", "@font-face{font-family:A}"),
    ],
)
def test_a_rule_stays_if_its_classes_are_used(css, kept):
    assert stylesheets.purged(css, USED) == kept


def test_classes_come_from_pages_and_scripts(tmp_path):
    static = tmp_path / "_static"
    static.mkdir()
    (tmp_path / "page.html").write_text('<p class="in-page second">x</p>')
    (static / "theme.js").write_text('element.classList.add("in-script")')
    names = ("in-page", "second", "in-script", "nowhere")
    rules = "".join(f".{name}{{color:red}}" for name in names) * 600  # a large file
    (static / "theme.css").write_text(rules)
    (static / "small.css").write_text(".nowhere{color:red}")

    class Application:
        outdir = tmp_path
        builder = type("Builder", (), {"format": "html"})

    stylesheets.leave_out_unused(Application, None)
    left = (static / "theme.css").read_text()
    assert [name in left for name in names] == [True, True, True, False]
    assert (static / "small.css").read_text() == ".nowhere{color:red}"
