"""The first page's sentences and maps, from a simulated study."""

import dataclasses
import re

import numpy as np
from simulated_study import judged, study

from isonb.evidence import claims, metrics
from isonb.pages import glance, verdicts

LOSSES = {"conv": 3.25, "mixer": 4.0, "transformer-1": 3.75}


def whole(**effects):
    """A simulated study of three seeds that says what it read."""
    columns = {"data": "cifar10", "epochs": 6, "data_train": 3600, "data_test": 1000}
    return study(**{name: lambda value=value, **_: value for name, value in columns.items()}, **effects)


def sentences(t):
    return re.sub(r"<[^>]*>", "", glance.sentences(judged(t))).splitlines()


def test_three_sentences_say_what_was_asked_what_came_out_and_at_which_scale():
    t = whole(
        loss=lambda **c: 5.0 if (c["network"], c["encoding"]) == ("transformer-1", "rff") else LOSSES[c["network"]],
        accuracy=lambda **c: 0.5 if c["network"] == "conv" else 0.4,
        untrained=lambda **c: 0.55 if c["network"] == "conv" else 0.3,
    )
    asked, came_out, scale = sentences(t)
    assert asked.startswith("What was asked. Does it help a small network to have knowledge of images built in")
    assert came_out == (
        "What came out. The convolution fills in hidden pixels best in 9 of 9 combinations of encoding (how a "
        "pixel's value is given) and size (the number of blocks); second is the transformer in 6 and the mixer in 3. "
        "Before any training of the network, a linear classifier already names the class of 55.0% of the test images "
        "correctly from the convolution's features, and of 50.0% after training; mixer: 30.0% and 40.0%; transformer: "
        "30.0% and 40.0% (continuous input, size 1)."
    )
    # 51 epochs x 45 000 images over 6 x 3600; Wilson's interval of 1/2 at n = 1000 is 3.1 points to either side
    assert scale == (
        "How sure, and at which scale. 81 networks of the study cpu, with 3 seeds at size 1, 3 seeds at size 3 and 3 "
        "seeds at size 6, trained for 6 epochs on 3600 images of CIFAR-10: each of the paper's was shown 106 times as "
        "many, repeats included. An accuracy on 1000 test images is known to 3 points. What has a strong colour "
        "in the map below is clear at this scale; it need not hold at the paper's."
    )


def test_the_scale_says_which_sizes_have_which_seeds():
    t = whole()
    is_kept = (t.runs["depth"] == 1) | (t.runs["seed"] == 0) | (t.runs["depth"] == 3) & (t.runs["network"] == "conv")
    scale = sentences(dataclasses.replace(t, runs=t.runs[is_kept]))[-1]
    assert "51 networks of the study cpu, with 3 seeds at size 1, 1 to 3 seeds at size 3 and 1 seed at size 6," in scale


def test_without_a_network_the_sentences_say_what_runs_them():
    _, came_out, scale = sentences(metrics.tables({}))
    assert came_out == "What came out. Networks of all three blocks: not run. Untrained networks: not run."
    assert scale.endswith("No network of the study cpu has run; make study STUDY=cpu runs them.")


def test_networks_that_share_the_first_place_have_no_second():
    t = whole(loss=lambda **c: LOSSES[c["network"]] - 2 * (c["network"] == "mixer" and c["depth"] == 6))
    assert (
        "The convolution fills in hidden pixels best in 6 of 9 combinations" in sentences(t)[1]
        and "second" not in sentences(t)[1]
    )


def test_the_map_is_that_of_the_claims():
    t = whole(loss=lambda **c: LOSSES[c["network"]] + 0.001 * c["seed"])
    of_study = verdicts.Study("cpu", t, {row["id"]: row for row in claims.as_rows(claims.judge(t))})
    words = glance.map_of_signs(of_study).alt
    assert "loss (nats), conv before mixer, continuous, size 1: +0.75, clearly as the paper says." in words
    assert "loss (nats), mixer before transformer-1, pix2vec, size 6: -0.25, clearly the opposite." in words
    assert "accuracy (points), conv before mixer, random Fourier, size 3: +0.00, not clear." in words


def test_what_training_adds_stands_beside_what_it_starts_from():
    t = study(
        accuracy=lambda **c: 0.5 if c["network"] == "conv" else 0.4,
        untrained=lambda **c: 0.55 if c["network"] == "conv" else 0.3,
        networks=("conv", "mixer"),
        encodings=("continuous",),
    )
    t = dataclasses.replace(t, runs=t.runs.assign(grid4_untrained_accuracy=0.25, grid4_accuracy=np.nan))
    first, second = glance.what_training_adds(t).to_dict("records")
    assert (first["network"], first["mean"], first["gain"]) == ("convolution", "55.0 to 50.0", "-5.0")
    assert (second["network"], second["mean"], second["gain"]) == ("mixer", "30.0 to 40.0", "+10.0")
    assert first["4x4 grid"] == "25.0 to -" and first["networks"] == "9"
    assert glance.what_training_adds(metrics.tables({})).iloc[0, 0] == "not run"
