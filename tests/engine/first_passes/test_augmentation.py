"""Augmented samples say which part of the whole image they show."""

import numpy as np
import pytest
from mmcv.transforms import Compose
from mmengine.registry import DefaultScope
from mmengine.structures import BaseDataElement

from toast_mm.engine.first_passes import TrackedPipeline, whole_images
from toast_mm.engine.first_passes.augmentation import coordinates_of, fit_view, is_geometric
from toast_mm.registry import TRANSFORMS
from toast_mm.seeding import kept_random_state

HEIGHT, WIDTH = 60, 84
# The image itself holds its coordinates, of three levels per pixel: columns are red, rows green.
IMAGE = np.stack(
    np.broadcast_arrays(
        3 * np.arange(WIDTH)[None], 3 * np.arange(HEIGHT)[:, None], np.full((HEIGHT, WIDTH), 200)
    ),
    axis=-1,
).astype(np.uint8)

GEOMETRIC = {
    'resize': dict(type='mmpretrain.Resize', scale=(42, 30)),
    'resize by pillow': dict(type='mmpretrain.Resize', scale=(42, 30), backend='pillow'),
    'ratio kept': dict(type='mmseg.Resize', scale=(63, 63), keep_ratio=True),
    'edge': dict(type='mmpretrain.ResizeEdge', scale=30, backend='pillow', interpolation='bicubic'),
    'shortest edge': dict(type='mmseg.ResizeShortestEdge', scale=40, max_size=100),
    'multiple': dict(type='mmseg.ResizeToMultiple', size_divisor=32),
    'random resize': dict(type='RandomResize', scale=(84, 60), ratio_range=(0.5, 1.5)),
    'choice': dict(type='RandomChoiceResize', scales=[(40, 30), (50, 70)]),
    'crop': dict(type='mmpretrain.RandomCrop', crop_size=32),
    'padded crop': dict(type='mmpretrain.RandomCrop', crop_size=48, padding=9, pad_val=(1, 2, 3)),
    'centre': dict(type='mmpretrain.CenterCrop', crop_size=(40, 24)),
    'resized crop': dict(type='mmpretrain.RandomResizedCrop', scale=32),
    'by pillow': dict(
        type='mmpretrain.RandomResizedCrop', scale=32, backend='pillow', interpolation='bicubic'
    ),
    'flip': dict(type='mmpretrain.RandomFlip', prob=1.0),
    'vertical': dict(type='mmseg.RandomFlip', prob=1.0, direction='vertical'),
    'crop of masks': dict(type='mmseg.RandomCrop', crop_size=(30, 40), cat_max_ratio=0.9),
    'pad': dict(type='Pad', size=(100, 70), pad_val=dict(img=(7, 8, 9), seg=255)),
    'rotate': dict(type='mmseg.RandomRotate', prob=1.0, degree=30, pad_val=0, seg_pad_val=255),
    'rotate by policy': dict(type='mmpretrain.Rotate', angle=25.0, prob=1.0),
    'shear': dict(type='mmpretrain.Shear', magnitude=0.2, prob=1.0, pad_val=90),
    'translate': dict(type='mmpretrain.Translate', magnitude=0.2, prob=1.0, pad_val=90),
}


class Record(list):
    """Stands for the last transform: keeps the image, and makes a sample."""

    def __call__(self, results):
        self.append(results)
        return dict(inputs=results['img'], data_samples=BaseDataElement())


def build(*configs):
    """A pipeline of these transforms."""
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return Compose([*map(TRANSFORMS.build, configs), PackRecord()])


class PackRecord(Record):
    """Named like a transform that packs."""


def results(**more):
    mask = np.repeat(np.arange(HEIGHT, dtype=np.uint8)[:, None] % 3, WIDTH, axis=1)
    return dict(
        img=IMAGE.copy(),
        img_shape=IMAGE.shape[:2],
        ori_shape=IMAGE.shape[:2],
        gt_seg_map=mask,
        seg_fields=['gt_seg_map'],
        sample_idx=4,
        **more,
    )


def run(*configs, seed=0):
    """Image and view of a tracked pipeline, and the image of the same pipeline untracked."""
    pipeline = build(*configs)
    plain, tracked = pipeline, TrackedPipeline(pipeline, 2)
    with kept_random_state():
        np.random.seed(seed)
        expected = plain(results())['inputs']
        state = np.random.get_state()[1:3]
        np.random.seed(seed)
        sample = tracked(results())
        assert state[1] == np.random.get_state()[2] and (state[0] == np.random.get_state()[1]).all()
    number, index, view = sample['data_samples'].first_pass
    assert (number, index) == (2, 4)
    np.testing.assert_array_equal(sample['inputs'], expected)  # tracking changes nothing
    return sample['inputs'], np.array(view)


def places(view, image):
    """Columns and rows of the whole image at all pixels of an image, in pixels."""
    y, x = np.meshgrid(*(np.arange(n) + 0.5 for n in image.shape[:2]), indexing='ij')
    source = np.stack([x, y, np.ones_like(x)], axis=-1) @ view.T
    return (source + 1) / 2 * (WIDTH, HEIGHT) - 0.5


@pytest.mark.parametrize('name', GEOMETRIC)
@pytest.mark.parametrize('seed', range(3))
def test_image_holds_what_the_view_says(name, seed):
    image, view = run(GEOMETRIC[name], seed=seed)
    inside = np.abs(image[..., 2].astype(int) - 200) < 1
    shown = image[..., :2][inside] / 3
    error = np.abs(places(view, image)[inside] - shown)
    # Interpolation repeats pixels at the border, and rotation takes the nearest one.
    assert inside.mean() > 0.3 and np.quantile(error, 0.9) < 1


def test_steps_are_composed():
    steps = [GEOMETRIC[name] for name in ('random resize', 'padded crop', 'flip', 'rotate')]
    image, view = run(*steps, dict(type='mmpretrain.ColorJitter', brightness=0.0), seed=5)
    inside = np.abs(image[..., 2].astype(int) - 200) < 1
    error = np.abs(places(view, image)[inside] - image[..., :2][inside] / 3)
    assert np.quantile(error, 0.9) < 1.5 and np.linalg.det(view[:, :2]) < 0  # flipped


def test_nothing_moves():
    _, view = run(dict(type='mmpretrain.ColorJitter', brightness=0.4))
    np.testing.assert_allclose(view, [[2 / WIDTH, 0, -1], [0, 2 / HEIGHT, -1]], atol=1e-6)


def test_flip_has_its_exact_view():
    _, view = run(dict(type='mmpretrain.RandomFlip', prob=1.0))
    np.testing.assert_allclose(view, [[-2 / WIDTH, 0, 1], [0, 2 / HEIGHT, -1]], atol=1e-6)


def test_colours_are_named():
    pipeline = build(
        dict(type='mmseg.PhotoMetricDistortion'), GEOMETRIC['flip'], dict(type='RandomGrayscale')
    )
    assert TrackedPipeline(pipeline, 0).unseen == ['PhotoMetricDistortion', 'RandomGrayscale']


@pytest.mark.parametrize(
    'config',
    [
        dict(
            type='mmpretrain.RandAugment',
            policies='timm_increasing',
            num_policies=2,
            magnitude_level=6,
        ),
        dict(type='Normalize', mean=[0, 0, 0], std=[1, 1, 1]),  # the whole image would lack it
        dict(type='mmseg.RandomMosaic', prob=1.0),
    ],
    ids=lambda config: config['type'],
)
def test_unknown_transform_is_refused(config):
    with pytest.raises(ValueError, match=f'{config["type"].split(".")[-1]} moves pixels'):
        TrackedPipeline(build(config), 0)


def test_classes_of_other_projects_say_it_themselves():
    class Mirror:
        geometric = True

        def __call__(self, results):
            return {**results, 'img': results['img'][:, ::-1]}

    class CenterCrop(Mirror):  # no transform of mm, though it is called like one
        geometric = None

    assert is_geometric(Mirror())
    Mirror.geometric = False
    assert not is_geometric(Mirror())
    with pytest.raises(ValueError, match='CenterCrop moves pixels'):
        is_geometric(CenterCrop())


def test_bent_image_is_refused():
    coordinates = coordinates_of((HEIGHT, WIDTH, 3)).copy()
    coordinates[..., 0] **= 3
    with pytest.raises(ValueError, match='bend the image'):
        fit_view(coordinates, (HEIGHT, WIDTH))


def test_padding_alone_shows_the_centre():
    assert fit_view(np.zeros((8, 8, 3), np.float32), (HEIGHT, WIDTH)) == ((0, 0, 0), (0, 0, 0))


@pytest.mark.parametrize('bands', [(), (1,), (3,), (6,)])
def test_coordinates_of_bands(bands):
    image = coordinates_of((2, 4, *bands))
    assert image.shape == (2, 4, max([3, *bands]))
    np.testing.assert_allclose(image[0, :, 0], [-0.75, -0.25, 0.25, 0.75])
    np.testing.assert_allclose(image[:, 0, 1], [-0.5, 0.5])
    assert (image[..., 2:] == 1).all()


def test_rejected_sample_is_rejected():
    class Reject:
        geometric = True

        def __call__(self, results):
            return None

    assert TrackedPipeline(Compose([Reject(), PackRecord()]), 0)(results()) is None


def test_whole_images_are_resized():
    class LoadNothing:
        def __call__(self, results):
            return results

    pipeline = Compose([LoadNothing(), *build(GEOMETRIC['crop']).transforms])
    image = whole_images(pipeline, (20, 28))(results())['inputs']
    assert image.shape == (20, 28, 3)
    assert image[0, :, 0].tolist() == pytest.approx(np.arange(28) * 9 + 3, abs=1)
