"""Formulas of the book, typeset while it is built: a page carries drawings and, for screen readers, MathML.

MathJax itself runs here, in an embedded JavaScript engine, so that a reader's browser need not load its megabyte.
The drawings take the text's colour and need no font.

Book: every chapter with a formula.
"""

from __future__ import annotations

import atexit
import functools
import importlib
import json
import re
from pathlib import Path

from docutils import nodes
from py_mini_racer import MiniRacer
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number
from sphinx.writers.html5 import HTML5Translator

COMPONENTS = ("core", "adaptors/liteDOM", "input/tex", "output/svg", "output/svg/fonts/tex")
START = """
globalThis.MathJax = {
  loader: { load: ["adaptors/liteDOM", "input/tex", "output/svg"], paths: { mathjax: "" } },
  startup: { typeset: false },
  tex: { packages: { "[-]": ["noundefined", "require", "autoload"] } },  // an unknown command is an error
};
MathJax.loader.require = (file) => (0, eval)(sources[file]);
function typeset(tex, display) {
  const svg = MathJax.startup.adaptor.innerHTML(MathJax.tex2svg(tex, { display }));
  return JSON.stringify([svg, MathJax.tex2mml(tex, { display })]);
}
"""

logger = logging.getLogger(__name__)


class FormulaFault(ValueError):
    """TeX that MathJax cannot typeset; its message is MathJax's own."""


@functools.cache
def _engine() -> MiniRacer:
    """MathJax, started once for a build."""
    folder = Path(str(importlib.import_module("sphinx-mathjax-offline").__file__)).parent / "static" / "mathjax"
    sources = {f"/{name}.js": (folder / f"{name}.js").read_text(encoding="utf-8") for name in COMPONENTS}
    engine = MiniRacer()
    atexit.register(engine.close)  # its thread would keep Python from ending
    engine.eval(f"globalThis.sources = {json.dumps(sources)}; {START}")
    engine.eval((folder / "startup.js").read_text(encoding="utf-8"))
    engine.eval("MathJax.startup.promise.then(() => true)").get(timeout=60)
    return engine


def typeset(tex: str, is_display: bool) -> str:
    """A formula as HTML, a drawing for the eye and MathML for the ear. Raises `FormulaFault` for TeX that is wrong."""
    svg, mathml = json.loads(_engine().call("typeset", tex, is_display))
    if fault := re.search(r'data-mjx-error="([^"]*)"', svg):
        raise FormulaFault(f"MathJax cannot typeset {tex!r}: {fault[1]}.")
    svg = re.sub(r' data-[a-z-]+="[^"]*"', "", svg).replace('role="img"', 'aria-hidden="true"')
    mathml = re.sub(r">\s+<", "><", re.sub(r' data-[a-z-]+="[^"]*"', "", mathml))
    return f'{svg}<span class="isonb-spoken">{mathml}</span>'


def _typeset_node(self: HTML5Translator, node: nodes.Element, is_display: bool) -> str:
    try:
        return typeset(node.astext(), is_display)
    except FormulaFault as fault:
        logger.warning(str(fault), location=node)
        return f"<code>{self.encode(node.astext())}</code>"


def visit_inline(self: HTML5Translator, node: nodes.math) -> None:
    """A formula in the text."""
    self.body.append(self.starttag(node, "span", "", CLASS="math"))
    self.body.append(_typeset_node(self, node, is_display=False) + "</span>")
    raise nodes.SkipNode


def visit_block(self: HTML5Translator, node: nodes.math_block) -> None:
    """A formula by itself, with its number if it has one."""
    self.body.append(self.starttag(node, "div", CLASS="math"))
    if node["number"]:
        self.body.append(f'<span class="eqno">({get_node_equation_number(self, node)})')
        self.add_permalink_ref(node, "Link to this equation")
        self.body.append("</span>")
    self.body.append(_typeset_node(self, node, is_display=True) + "</div>\n")
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Register all of this with Sphinx, as `html_math_renderer: isonb`."""
    app.add_html_math_renderer("isonb", (visit_inline, None), (visit_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
