import random
from itertools import chain, islice

import numpy as np
import pytest
import torch
from mmengine.dataset import BaseDataset
from mmengine.registry import TRANSFORMS
from mmengine.runner import Runner
from PIL import Image

import toast_mm  # noqa: F401  registers the transforms
from toast_mm.datasets import SeedAugmentation, drawing


def noise(results: dict) -> dict:
    """Noise from all three generators, as in augmentations."""
    return dict(results, noise=(random.random(), np.random.rand(), torch.rand(1).item()))


def keep_even(results: dict) -> dict | None:
    """A transform that drops some samples; mmengine fetches others for them."""
    return None if results['number'] % 2 else results


class Numbers(BaseDataset):
    def __init__(self, *pipeline) -> None:
        super().__init__(
            pipeline=[dict(type='toast_mm.SeedAugmentation'), *pipeline], serialize_data=False
        )

    def load_data_list(self) -> list[dict]:
        return [dict(number=i) for i in range(12)]


def samples(
    dataset, number: int | None = None, sampler='toast_mm.DefaultSampler', **settings
) -> list[dict]:
    loader = Runner.build_dataloader(
        dict(
            dataset=dataset,
            sampler=dict(type=sampler),
            collate_fn=dict(type=list),
            **{'batch_size': 1, 'num_workers': 0, **settings},
        ),
        seed=3,
    )
    return list(islice(chain.from_iterable(loader), number))


class TestSeedAugmentation:
    def test_function_of_the_draw(self):
        def augment(draw: tuple) -> tuple:
            with drawing(draw):
                return noise(SeedAugmentation()({}))['noise']

        first = augment((3, 7))
        np.random.rand(), random.random(), torch.rand(1)
        assert augment((3, 7)) == first
        for other in ((3, 8), (4, 7), (7, 3)):
            assert not set(augment(other)) & set(first)

    def test_results_stay_as_they_are(self):
        results = dict(sample_idx=4, img='pixels')
        with drawing((3, 7)):
            assert SeedAugmentation()(results) is results
        assert results == dict(sample_idx=4, img='pixels')

    @pytest.mark.parametrize(
        'settings',
        [dict(batch_size=4), dict(num_workers=1), dict(num_workers=3, batch_size=2)],
        ids=['batch size', 'worker', 'workers'],
    )
    @pytest.mark.filterwarnings('ignore:This DataLoader will create')
    def test_independent_of_workers_and_batches(self, settings):
        expected = samples(Numbers(noise))
        assert len({sample['noise'] for sample in expected}) == 12
        assert samples(Numbers(noise), **settings) == expected

    def test_samples_drawn_again_are_augmented_anew(self):
        drawn = samples(Numbers(noise), 24, 'toast_mm.InfiniteSampler')
        one, other = (sample['noise'] for sample in drawn if sample['number'] == 2)
        assert one != other

    @pytest.mark.parametrize('sampler', ['DefaultSampler', 'InfiniteSampler'])
    def test_stock_sampler(self, sampler):
        with pytest.raises(ValueError) as info:
            samples(Numbers(), sampler=f'mmengine.{sampler}')
        assert str(info.value) == (
            'SeedAugmentation needs a sampler of toast_mm for this data set: set '
            "sampler=dict(type='toast_mm.InfiniteSampler') or 'toast_mm.DefaultSampler'"
        )

    @pytest.mark.filterwarnings('ignore:This DataLoader will create')
    def test_substitutes_of_unusable_samples(self):
        """The substitute is a function of the draw too, also the first sample of a worker."""
        expected = samples(Numbers(noise, keep_even))
        assert all(sample['number'] % 2 == 0 for sample in expected) and len(expected) == 12
        np.random.seed(1)
        assert samples(Numbers(noise, keep_even), num_workers=2) == expected


@pytest.fixture
def load_image():
    return TRANSFORMS.build(dict(type='toast_mm.LoadImageFromFile'))


@pytest.fixture
def load_mask():
    """Load a mask as mmseg's data sets ask for it."""
    transform = TRANSFORMS.build(dict(type='toast_mm.LoadAnnotations'))

    def load(path, reduce_zero_label: bool = False) -> np.ndarray:
        results = dict(
            img_path='image.jpg',
            seg_map_path=str(path),
            seg_fields=[],
            label_map=None,
            reduce_zero_label=reduce_zero_label,
        )
        return transform(results)['gt_seg_map']

    return load


class TestLoadImageFromFile:
    def test_reads_bgr(self, load_image, tmp_path):
        rgb = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
        Image.fromarray(rgb).save(tmp_path / 'image.png')
        results = load_image(dict(img_path=str(tmp_path / 'image.png')))
        assert np.array_equal(results['img'], rgb[..., ::-1])
        assert results['ori_shape'] == results['img_shape'] == (2, 4)

    @pytest.mark.parametrize('content', [b'', b'no image', b'\xff\xd8\xff\xe0'])
    def test_undecodable(self, load_image, tmp_path, content):
        file = tmp_path / 'broken.jpg'
        file.write_bytes(content)
        with pytest.raises(ValueError, match=f'^{file} cannot be decoded as an image$'):
            load_image(dict(img_path=str(file)))

    def test_missing(self, load_image, tmp_path):
        with pytest.raises(FileNotFoundError, match=r'missing\.jpg'):
            load_image(dict(img_path=str(tmp_path / 'missing.jpg')))

    def test_tolerance_where_asked_for(self, tmp_path):
        (tmp_path / 'broken.jpg').touch()
        transform = TRANSFORMS.build(dict(type='toast_mm.LoadImageFromFile', ignore_empty=True))
        assert transform(dict(img_path=str(tmp_path / 'broken.jpg'))) is None


class TestLoadAnnotations:
    LABELS = np.array([[0, 1, 2, 20], [150, 254, 255, 7]], dtype=np.uint8)

    def test_gray(self, load_mask, tmp_path):
        Image.fromarray(self.LABELS).save(tmp_path / 'mask.png')
        loaded = load_mask(tmp_path / 'mask.png')
        assert loaded.dtype == np.uint8 and np.array_equal(loaded, self.LABELS)

    def test_palette(self, load_mask, tmp_path):
        """VOC's masks: the index is the label, whatever its color."""
        mask = Image.fromarray(self.LABELS)
        mask.putpalette(np.random.default_rng(0).integers(0, 256, 768, dtype=np.uint8).tobytes())
        mask.save(tmp_path / 'mask.png')
        with Image.open(tmp_path / 'mask.png') as saved:
            assert saved.mode == 'P'
        assert np.array_equal(load_mask(tmp_path / 'mask.png'), self.LABELS)

    def test_reduce_zero_label(self, load_mask, tmp_path):
        """ADE20K: 0 is other and ignored, class c is label c + 1."""
        Image.fromarray(self.LABELS).save(tmp_path / 'mask.png')
        loaded = load_mask(tmp_path / 'mask.png', reduce_zero_label=True)
        assert loaded.tolist() == [[255, 0, 1, 19], [149, 253, 255, 6]]

    def test_undecodable(self, load_mask, tmp_path):
        file = tmp_path / 'mask.png'
        Image.fromarray(np.random.default_rng(0).integers(0, 9, (64, 64), dtype=np.uint8)).save(
            file
        )
        whole = file.read_bytes()
        for content in (b'', b'no mask', whole[: len(whole) // 2]):
            file.write_bytes(content)
            with pytest.raises(ValueError, match=f'^{file} cannot be decoded as a mask$'):
                load_mask(file)

    def test_missing(self, load_mask, tmp_path):
        with pytest.raises(FileNotFoundError, match=r'missing\.png'):
            load_mask(tmp_path / 'missing.png')
