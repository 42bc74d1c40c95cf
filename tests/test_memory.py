"""The memory of a training step: weights counted by hand, and what grows with the batch."""

import pytest

from isonb import config
from isonb.config import RunConfig
from isonb.running import memory


def test_memory_counts_weights_once_and_activations_by_image():
    run = RunConfig(image_size=8, width=8)
    one, three, five = (memory.training_bytes(run, batch, "float32") for batch in (1, 3, 5))
    assert three - one > 0
    assert five - three == pytest.approx(three - one, abs=1)  # a byte for rounding
    assert one - (three - one) / 2 == pytest.approx(16 * parameters(run), abs=2)


def test_on_a_gpu_the_input_of_every_norm_is_kept_in_float32():
    """Two more bytes for each of 64 positions of 8 channels before each of a block's two norms."""
    run = RunConfig(image_size=8, width=8, depth=3, head_norm=False)
    cpu, gpu = (memory.training_bytes(run, 100, "bfloat16", on_gpu) for on_gpu in (False, True))
    assert gpu - cpu == pytest.approx(1.8 * 100 * 2 * 64 * 8 * 2 * 3, abs=1)
    assert memory.training_bytes(run, 100, "float32", True) == memory.training_bytes(run, 100, "float32", False)


def test_on_a_gpu_a_recorded_step_leaves_room_for_images_and_for_their_evaluation():
    """64 positions of 3 bytes an image, its two places, and whether it is one; 512 evaluated at once, 128 if causal."""
    masked, causal = (
        config.cell("smoke", image_size=8, width=8, objective=objective) for objective in ("bert", "autoregressive")
    )
    few, more = (memory.gpu_bytes(masked, 4, "bfloat16", images) for images in (100, 300))
    assert more - few == 200 * (64 * 3 + 17)
    for cell, share, at_once in ((masked, 0.15, 512), (causal, 1.0, 128)):
        plain = cell.run.model_copy(update={"seed": 0, "epochs": 1, "learning_rate": 0.01})
        between = memory.gpu_bytes(cell, 4, "bfloat16", 0) - memory.training_bytes(plain, 4, "bfloat16", True)
        assert between == pytest.approx(at_once * 64 * (share * 768 * 10 + 8 * 4 * 4), abs=1)


def test_on_a_gpu_the_features_of_many_images_may_need_more_than_training():
    """16 places of 8 features of 2 layers in float32 for probes, and one of these layers again in 20 bytes a number."""
    cell = config.cell("smoke", image_size=8, width=8)
    assert memory.gpu_bytes(cell, 4, "bfloat16", 10**6) == 10**6 * 16 * 8 * (2 * 4 + 20)


def parameters(run):
    """conv: two norms and convolutions a block; an encoding of three maps and biases; a norm and the head."""
    d = run.width
    return 2 * (2 * d + 9 * d * d + d) + 3 * (d + d) + 2 * d + 768 * d + 768


def test_kept_memory_is_quadratic_only_where_it_must_be():
    def kept(size):
        run = RunConfig(block="transformer", image_size=size, width=8, positions="none")
        return memory.training_bytes(run, 64, "float32") - memory.training_bytes(run, 2, "float32")

    masked = 1.05  # the number of masked positions is drawn
    assert kept(32) < 4 * masked * kept(16)
