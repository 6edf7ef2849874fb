"""Images made small: means over blocks, of all of a data set, and sizes that do not divide."""

from __future__ import annotations

import numpy as np
import pytest

from wm_vla_ros.world_models import small_images as module
from wm_vla_ros.world_models.small_images import block_means, small_images


def test_every_pixel_is_the_mean_of_its_block() -> None:
    image = np.zeros((1, 4, 8, 3), np.uint8)
    image[0, :2, :4] = [[[10, 0, 0], [30, 0, 0], [0, 0, 8], [0, 0, 9]]] * 2
    np.testing.assert_array_equal(block_means(image, (2, 4))[0, 0, :2], [[20, 0, 0], [0, 0, 8.5]])
    np.testing.assert_array_equal(small_images(image, (2, 4))[0, 0, :2], [[20, 0, 0], [0, 0, 9]])
    np.testing.assert_array_equal(block_means(image[None], (1, 1))[0, 0, 0, 0], image[0].mean((0, 1)))


def test_bright_blocks_do_not_overflow() -> None:
    assert (small_images(np.full((1, 64, 64, 3), 255, np.uint8), (2, 2)) == 255).all()


def test_a_data_set_is_taken_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 3)
    images = np.random.default_rng(0).integers(0, 256, (8, 4, 4, 3), np.uint8)
    assert np.abs(small_images(images, (2, 2)) - block_means(images, (2, 2))).max() <= 0.5


def test_a_size_that_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="images of 6x8 pixels: expected whole multiples of 4x4"):
        block_means(np.zeros((1, 6, 8, 3), np.uint8), (4, 4))
