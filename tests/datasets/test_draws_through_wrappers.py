"""The draw of a sample reaches its pipeline through all wrappers of data sets."""

import copy
import pickle
import random

import numpy as np
import pytest
import torch
from mmengine.dataset import BaseDataset, ClassBalancedDataset, ConcatDataset, RepeatDataset
from mmengine.runner import Runner
from mmpretrain.datasets import KFoldDataset
from mmseg.datasets import MultiImageMixDataset
from torch.utils.data import Subset

from toast_mm.datasets import DefaultSampler, drawing
from toast_mm.registry import TRANSFORMS
from toast_mm.seeding import seed_everything


def noise(results: dict) -> dict:
    return dict(results, noise=(random.random(), np.random.rand(), torch.rand(1).item()))


class Numbers(BaseDataset):
    """Six samples: two of class 1, the others of class 0."""

    def __init__(self, **kwargs) -> None:
        pipeline = [dict(type='toast_mm.SeedAugmentation'), noise]
        super().__init__(pipeline=pipeline, serialize_data=False, **kwargs)

    def load_data_list(self) -> list[dict]:
        return [dict(number=i, gt_label=int(i > 3)) for i in range(6)]

    def get_cat_ids(self, idx: int) -> list[int]:
        return [self.get_data_info(idx)['gt_label']]


@TRANSFORMS.register_module(force=True)
class MixNoise:
    """Adds another sample, as mosaic does."""

    def get_indices(self, dataset) -> int:
        return np.random.randint(len(dataset))

    def __call__(self, results: dict) -> dict:
        return dict(results, mixed=results['mix_results'][0])


# numpy.random.default_rng(4).permutation(6) orders the images of the folds.
KFOLD = np.random.default_rng(4).permutation(6).tolist()
BALANCED = dict(type=ClassBalancedDataset, dataset=dict(type=Numbers), oversample_thr=1.0)
WRAPPERS = {
    # Frequencies of 4/6 and 2/6 under the threshold of 1: sqrt(3/2) and sqrt(3), rounded up to 2.
    'class balanced': (lambda: ClassBalancedDataset(Numbers(), 1.0), [*np.repeat(range(6), 2)]),
    'repeated': (lambda: RepeatDataset(Numbers(), 2), [*range(6)] * 2),
    'joined': (lambda: ConcatDataset([Numbers(), Numbers()]), [*range(6)] * 2),
    'fold': (lambda: KFoldDataset(dict(type=Numbers), 0, 3, seed=4), KFOLD[2:]),
    'subset': (lambda: Subset(Numbers(), [5, 0, 3]), [5, 0, 3]),
    'subset of repeated, balanced': (
        lambda: Subset(RepeatDataset(BALANCED, 2), [11, 23, 2]),
        [5, 5, 1],
    ),
}


def stream(seed: int, number: int) -> tuple:
    """Random numbers after seeding from (seed, number of the draw)."""
    seed_everything(seed, number)
    return random.random(), np.random.rand(), torch.rand(1).item()


def load(dataset, **settings) -> list[dict]:
    settings = {'batch_size': 2, 'num_workers': 0, **settings}
    sampler = dict(type='toast_mm.DefaultSampler', shuffle=False)
    loader = Runner.build_dataloader(
        dict(dataset=dataset, sampler=sampler, collate_fn=dict(type=list), **settings), seed=8
    )
    return [sample for batch in loader for sample in batch]


@pytest.mark.parametrize('name', WRAPPERS)
def test_every_sample_is_augmented_by_its_draw(name):
    build, numbers = WRAPPERS[name]
    samples = load(build())
    assert [sample['number'] for sample in samples] == numbers
    assert [sample['noise'] for sample in samples] == [
        stream(8, draw) for draw in range(len(numbers))
    ]


@pytest.mark.filterwarnings('ignore:This DataLoader will create')
def test_independent_of_workers():
    build, _ = WRAPPERS['class balanced']
    assert load(build(), num_workers=2, batch_size=3) == load(build())


def test_mixed_images():
    """The mixed-in image continues the random stream of the first, and does not repeat it."""

    def mixed(batch_size: int) -> list[dict]:
        parts = dict(type=ConcatDataset, datasets=[dict(type=Numbers)])
        transforms = [dict(type='toast_mm.MixNoise')]
        return load(MultiImageMixDataset(parts, transforms), batch_size=batch_size)

    samples = mixed(2)
    assert [sample['noise'] for sample in samples] == [stream(8, draw) for draw in range(6)]
    assert not any(set(sample['noise']) & set(sample['mixed']['noise']) for sample in samples)
    assert mixed(3) == samples


@pytest.mark.parametrize('copied', [copy.deepcopy, lambda d: pickle.loads(pickle.dumps(d))])
def test_copies_fetch_from_themselves(copied):
    """Workers that are spawned get a pickled data set."""
    dataset = ClassBalancedDataset(Numbers(), 1.0)
    indices = [*DefaultSampler(dataset, shuffle=False, seed=8)]
    other = copied(dataset)
    other.repeat_indices = [3] * 12
    assert [s['number'] for s in dataset.__getitems__(indices[4:6])] == [2, 2]
    assert [s['number'] for s in other.__getitems__(indices[4:6])] == [3, 3]
    assert [s['noise'] for s in other.__getitems__(indices[4:6])] == [stream(8, 4), stream(8, 5)]


def test_a_stock_sampler_of_the_same_data_set():
    """It counts no draws, even if one of our samplers used the data set before."""
    dataset = Numbers()
    DefaultSampler(dataset, seed=8)
    with drawing((8, 0)):
        assert dataset[0]['noise'] == stream(8, 0)
    with pytest.raises(ValueError, match=r'^SeedAugmentation needs a sampler'):
        dataset.__getitems__([0, 1])
