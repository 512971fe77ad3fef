"""Data of a user, made here: images of one colour per class."""

from pathlib import Path

import numpy as np
from PIL import Image


def fill_folder(folder: Path, number: int, colour: tuple[int, int, int], size=(20, 16)) -> None:
    """Images of noise around a colour."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(number):
        noise = np.random.default_rng(index).integers(-20, 20, (size[1], size[0], 3))
        pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f'{index}.png')


def write_pairs(root: Path, labels: list[int], split: str = '') -> None:
    """An image and a mask for each label, whose left half is that label and whose rest is 0."""
    for index, label in enumerate(labels):
        mask = np.zeros((16, 20), np.uint8)
        mask[:, :10] = label
        image = np.random.default_rng(index).integers(0, 60, (16, 20, 3)) + 40 * mask[..., None]
        for kind, pixels, suffix in (('images', image, 'jpg'), ('annotations', mask, 'png')):
            (root / kind / split).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(root / kind / split / f'{index}.{suffix}')
