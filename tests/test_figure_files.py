"""A page's figures become files: lazily loaded, one for a light and one for a dark page, photographs as they are."""

import base64
import io
import re

import pytest
from PIL import Image

from isonb.evidence.picture import Picture
from isonb.pages import figure_files


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "_images"


def written(folder, body):
    """The body of a page two folders down after its figures have become files."""

    class Application:
        outdir = folder.parent

    context = {"body": body, "pathto": lambda name, resource: f"../../{name}"}
    figure_files.write_files(Application, "book/results/page", "page.html", context, None)
    return context["body"]


def drawing():
    figure = Picture(figsize=(4.8, 2))
    figure.subplots().plot([0, 1], color="#222222")
    figure.caption, figure.alt = "A line.", "It rises."
    figure.wide = Picture(figsize=(8, 2))
    return figure.to_html()


def test_a_drawing_is_loaded_late_in_the_colours_of_the_page(folder):
    body = written(folder, f"<p>before</p>{drawing()}<p>after</p>")
    assert "data:" not in body and body.startswith("<p>before</p><figure") and body.endswith("</figure><p>after</p>")
    light, dark = re.findall("<picture>.*?</picture>", body)
    assert 'class="only-light"' in light and 'class="only-dark"' in dark
    names = [re.findall(r'"\.\./\.\./_images/(\w+\.svg)"', picture) for picture in (light, dark)]
    assert len({*names[0], *names[1]}) == len(list(folder.iterdir())) == 4  # for a desk and for a phone
    for picture in (light, dark):
        assert 'loading="lazy" decoding="async"' in picture and 'alt="It rises."' in picture
        assert 'width="346" height="144"' in picture and "#fff" not in picture
    assert "stroke: #222222" in (folder / names[0][1]).read_text()
    assert "#222222" not in (folder / names[1][1]).read_text()


def test_the_same_drawing_is_the_same_file(folder):
    assert written(folder, drawing()) == written(folder, drawing() + "x")[:-1]
    assert len(list(folder.iterdir())) == 4


def test_pixels_are_packed_and_keep_their_colours(folder):
    drawn = io.BytesIO()
    Image.new("RGB", (4, 4), (10, 200, 30)).save(drawn, "png")
    source = base64.b64encode(drawn.getvalue()).decode()
    body = written(folder, f'<figure class="isonb-figure"><img src="data:image/png;base64,{source}" alt="a"></figure>')
    [file] = folder.iterdir()
    assert f'src="../../_images/{file.name}"' in body and file.suffix == ".webp" and body.count("<img") == 1
    assert Image.open(file).convert("RGB").getpixel((1, 1)) == (10, 200, 30)


def test_images_that_are_no_figure_stay_in_the_page(folder):
    other = '<img src="data:image/png;base64,AAAA"> and isonb-figure in a sentence'
    assert written(folder, other) == other
