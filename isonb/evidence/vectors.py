"""Vector graphics as a page wants them: small, in the page's own typeface, and in the colours of a dark page.

Book: every figure.
"""

from __future__ import annotations

import base64
import colorsys
import functools
import io
import re

from PIL import Image

TYPEFACE = "-apple-system,BlinkMacSystemFont,'Segoe UI','Helvetica Neue',Arial,sans-serif"  # the theme's
DRAWN_WITH = "DejaVu Sans"  # what matplotlib measures letters by; it is wider than all of those
DARK_PAGE = "#121212"
LARGE = 128  # pixels: a raster that is larger is packed with losses that nobody sees
PNG = re.compile(r'data:image/png;base64,\s*([^"]*)"')
TAG, LONG_NUMBER = re.compile(r"<[^>]+>"), re.compile(r"(?<![\w#])-?\d+\.\d{3,}")
COLOUR = re.compile(r"((?:fill|stroke): ?)(#[0-9a-f]{6})")


def slim(svg: str, is_smooth: bool = False) -> str:
    """What matplotlib has drawn, in half of its bytes: WebP rasters, hundredths of a point, one name of the typeface.

    Rasters keep their pixels' edges unless `is_smooth`.
    """
    svg = PNG.sub(lambda match: f'{_webp(base64.b64decode(match[1]))}"', svg)
    if is_smooth:
        svg = svg.replace("image-rendering:crisp-edges;image-rendering:pixelated", "image-rendering:auto")
    svg = re.sub(r"<\?xml.*?<svg", "<svg", svg, count=1, flags=re.DOTALL)
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(rf";? ?font-family: '{DRAWN_WITH}'", "", svg)
    svg = re.sub(r' transform="rotate\(-?0 [^"]*"', "", svg)
    svg = TAG.sub(lambda tag: LONG_NUMBER.sub(_rounded, tag[0]), svg)  # numbers that a reader reads keep their digits
    svg = re.sub(r"\s*\n\s*", " ", svg).replace("> <", "><")
    return svg.replace("</style>", f" text{{font-family:{TYPEFACE}}}</style>", 1)


def _rounded(number: re.Match[str]) -> str:
    return f"{float(number[0]):.2f}".rstrip("0").rstrip(".")


def dark(svg: str) -> str:
    """The same drawing for a dark page: every colour has the contrast there that it has on white."""
    svg = COLOUR.sub(lambda match: match[1] + on_dark(match[2]), svg)
    return svg.replace("</style>", f" svg{{fill:{on_dark('#000000')}}}</style>", 1)  # black is what is left out


@functools.cache
def on_dark(colour: str) -> str:
    """The colour of this hue that stands out from a dark page as this one, such as "#0072b2", does from white."""
    hue, _, saturation = colorsys.rgb_to_hls(*_channels(colour))
    aim = 1.05 / (luminance(colour) + 0.05) * (luminance(DARK_PAGE) + 0.05) - 0.05
    low, high = 0.0, 1.0
    while high - low > 1e-4:
        middle = (low + high) / 2
        is_too_dark = _luminance(colorsys.hls_to_rgb(hue, middle, saturation)) < aim
        low, high = (middle, high) if is_too_dark else (low, middle)
    return "#" + "".join(f"{round(255 * channel):02x}" for channel in colorsys.hls_to_rgb(hue, high, saturation))


def luminance(colour: str) -> float:
    """Relative luminance of a colour such as "#0072b2" as WCAG 2 defines it, from 0 to 1."""
    return _luminance(_channels(colour))


def _luminance(channels: tuple[float, float, float]) -> float:
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _channels(colour: str) -> tuple[float, float, float]:
    red, green, blue = (int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5))
    return red, green, blue


def _webp(png: bytes) -> str:
    image, packed = Image.open(io.BytesIO(png)).convert("RGBA"), io.BytesIO()
    if image.getchannel("A").getextrema() == (255, 255):
        image = image.convert("RGB")
    if max(image.size) > LARGE:
        image.save(packed, "webp", quality=70, method=6)
    else:
        image.save(packed, "webp", lossless=True, method=6)
    return f"data:image/webp;base64,{base64.b64encode(packed.getvalue()).decode()}"
