"""Samples that command lines show."""

import pytest
from mmengine.config import Config

from toast_mm.samples import split_dataset


@pytest.mark.parametrize(
    'loader, sentence',
    [
        (None, '^--split val: the config has no val_dataloader$'),
        (dict(batch_size=2), '^val_dataloader has no dataset$'),
        (dict(batch_size=2, dataset=None), '^val_dataloader has no dataset$'),
        ([1, 2], '^val_dataloader has no dataset$'),
    ],
)
def test_a_split_without_data(loader, sentence):
    with pytest.raises(ValueError, match=sentence):
        split_dataset(Config(dict(val_dataloader=loader)), 'val')
