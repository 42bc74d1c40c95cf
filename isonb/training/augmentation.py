"""Random changes of training images that keep their class: mirrored and shifted, as a switch the paper does not use.

Book: chapter "Departures from the paper", A25.
"""

from __future__ import annotations

import torch

from isonb.models import splitmix

PARTS = ("flip", "top", "left")  # what is drawn for each image


def augment(pixels_BNC: torch.Tensor, index_B: torch.Tensor, *, seed: int, epoch: int, size: int) -> torch.Tensor:
    """Each image mirrored with probability 1/2, padded by size/8 black pixels on all sides and cropped to its size.

    A function of (seed, epoch, image number) alone, whatever batch the image is in. Same shape and type as given.
    """
    key_P = torch.tensor(keys(seed, epoch), device=pixels_BNC.device)
    return augment_by(pixels_BNC, index_B.to(pixels_BNC.device), key_P, size)


def keys(seed: int, epoch: int) -> list[int]:
    """What each of `PARTS` is drawn from in an epoch, for `augment_by`."""
    return [splitmix.key(seed, f"augmentation/{part}", epoch) for part in PARTS]


def augment_by(pixels_BNC: torch.Tensor, index_B: torch.Tensor, key_P: torch.Tensor, size: int) -> torch.Tensor:
    """What `augment` does, from the epoch's keys; all of it on the device that they are on."""
    margin, device = size // 8, pixels_BNC.device
    flip_B, top_B, left_B = splitmix.uniform(splitmix.bits(key_P[:, None], index_B))
    image_BHWC = pixels_BNC.unflatten(1, (size, size))
    image_BHWC = torch.where(flip_B[:, None, None, None] < 0.5, image_BHWC.flip(2), image_BHWC)
    padded_BHWC = torch.nn.functional.pad(image_BHWC, (0, 0, margin, margin, margin, margin))
    rows_BH, columns_BW = (
        (u_B * (2 * margin + 1)).long()[:, None] + torch.arange(size, device=device) for u_B in (top_B, left_B)
    )
    image_B = torch.arange(len(index_B), device=device)
    return padded_BHWC[image_B[:, None, None], rows_BH[:, :, None], columns_BW[:, None, :]].flatten(1, 2)
