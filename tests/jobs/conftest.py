"""Data of a user, for all tests of this folder."""

from pathlib import Path

import pytest
from own_images import fill_folder, write_pairs


@pytest.fixture(scope='session')
def flowers(tmp_path_factory) -> Path:
    """Three classes of 10 images, one with a space and one with other letters in its name."""
    root = tmp_path_factory.mktemp('data') / 'flowers'
    fill_folder(root / 'red rose', 10, (200, 30, 30))
    fill_folder(root / 'blåklint', 10, (30, 30, 200))
    fill_folder(root / 'ivy', 10, (30, 200, 30))
    return root


@pytest.fixture(scope='session')
def fields(tmp_path_factory) -> Path:
    """Ten images with masks of a background and two classes."""
    root = tmp_path_factory.mktemp('data') / 'fields'
    write_pairs(root, [1, 2] * 5)
    (root / 'classes.txt').write_text('ground 0 0 0\nred poppy 200 0 0\nrye 0 200 0\n')
    return root
