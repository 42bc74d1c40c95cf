"""A page's figures as files: loaded when a reader comes near, for a light and for a dark page.

A cell shows a figure that is whole in itself, as JupyterLab needs it. In the built book its images lie below `_images`,
named by their content. A drawing is written a second time in the colours of a dark page, and the theme hides one of the
two; what is hidden is not loaded. Photographs are the same on both.

Book: every figure.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
from pathlib import Path
from typing import Any

import PIL
from PIL import Image
from sphinx.application import Sphinx

from isonb import disk
from isonb.evidence import vectors

FOLDER = "_images"
PACKED = "packed"  # beside the built book
FIGURE = re.compile(r'<figure class="isonb-figure">.*?</figure>', re.DOTALL)
PICTURE = re.compile(r"<picture>.*?</picture>|<img [^>]*>", re.DOTALL)
EMBEDDED = re.compile(r"data:image/([a-z]+)(?:\+xml)?;base64,([^\"]*)")
ON_WHITE = re.compile(r";?background:#fff")


def write_files(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Write the images that figures of this page hold as files, and let the page load them."""
    if "isonb-figure" not in context.get("body", ""):
        return
    folder = Path(app.outdir) / FOLDER
    folder.mkdir(exist_ok=True)

    def linked(html: str, is_dark: bool = False) -> str:
        def file(match: re.Match[str]) -> str:
            kind, content = _packed(match[1], base64.b64decode(match[2]), is_dark, Path(app.outdir).parent / PACKED)
            name = f"{hashlib.sha256(content).hexdigest()[:16]}.{kind}"
            (folder / name).write_bytes(content)
            return str(context["pathto"](f"{FOLDER}/{name}", resource=True))

        return EMBEDDED.sub(file, html).replace("<img ", '<img loading="lazy" decoding="async" ')

    def both(match: re.Match[str]) -> str:
        if "data:image/svg" not in match[0]:
            return linked(match[0])
        drawing = ON_WHITE.sub("", match[0])
        light, dark = (drawing.replace("<img ", f'<img class="only-{theme}" ') for theme in ("light", "dark"))
        return linked(light) + linked(dark, is_dark=True)

    context["body"] = FIGURE.sub(lambda figure: PICTURE.sub(both, figure[0]), context["body"])


def _packed(kind: str, content: bytes, is_dark: bool, kept: Path) -> tuple[str, bytes]:
    """The ending and the bytes of an image's file; what was packed is kept by its content, since packing takes long."""
    if kind == "svg":
        return kind, vectors.dark(content.decode()).encode() if is_dark else content
    path = kept / f"{hashlib.sha256(content).hexdigest()}-{PIL.__version__}.webp"
    if not path.is_file():
        packed = io.BytesIO()
        Image.open(io.BytesIO(content)).convert("RGB").save(packed, "webp", lossless=True)
        disk.write_atomically(path, packed.getvalue())
    return "webp", path.read_bytes()


def setup(app: Sphinx) -> dict[str, bool]:
    """Register this with Sphinx."""
    app.connect("html-page-context", write_files)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
