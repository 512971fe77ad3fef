"""Jobs of six bands as docs/bands.md has them: train, write a task file, load it, predict, draw."""

import re
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from commands import ROOT
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import DefaultScope
from mmpretrain import ImageClassificationInferencer
from mmseg.apis import inference_model, init_model
from PIL import Image

from toast_mm.apis import MultiTask
from toast_mm.checkpoint import load_from_local
from toast_mm.checkpoint.adapter import read_record
from toast_mm.datasets import LoadBandsFromFile

MEAN = np.array([1350, 1120, 1040, 950, 2300, 1600])
STEM = 'backbone.patch_embed.projection.0.conv.weight'
BLOCKS = re.findall(r'```python\n(_base_.*?)```', (ROOT / 'docs/bands.md').read_text(), re.S)


def pixels(rng, bright, size=64):
    """Six bands of noise; where it is bright, the fifth has twice its mean."""
    image = rng.normal(MEAN, 0.05 * MEAN, (size, size, 6))
    image[..., 4] *= 1 + bright
    return image.astype(np.uint16)


@pytest.fixture(scope='module')
def fields(tmp_path_factory):
    """Two classes that only the fifth band tells apart, in TIFF and in .npy files."""
    root, rng = tmp_path_factory.mktemp('fields'), np.random.default_rng(0)
    for part, number in (('train', 8), ('val', 3)):
        for label in (0, 1):
            folder = root / part / f'class_{label}'
            folder.mkdir(parents=True)
            for n in range(number):
                image = pixels(rng, np.full((64, 64), label))
                if n % 2:
                    np.save(folder / f'{n}.npy', image)
                else:
                    write(folder / f'{n}.tif', image)
    return root


@pytest.fixture(scope='module')
def lakes(tmp_path_factory):
    root, rng = tmp_path_factory.mktemp('lakes'), np.random.default_rng(0)
    for part, number in (('train', 4), ('val', 2)):
        for folder in ('images', 'masks'):
            (root / part / folder).mkdir(parents=True)
        for n in range(number):
            mask = np.zeros((96, 96), np.uint8)
            mask[:, 32 + 8 * n :] = 2
            mask[:8] = 1
            write(root / part / f'images/{n}.tif', pixels(rng, mask / 2, 96))
            Image.fromarray(mask).save(root / part / f'masks/{n}.png')
    return root


def write(path, image):
    tifffile.imwrite(path, image, photometric='minisblack', planarconfig='contig')


def job(folder: Path, number: int, data: Path, transforms=None, **changes) -> Path:
    """One of the configs of the page, on generated data and short."""
    config = Config.fromstring(
        BLOCKS[number].replace('data/fields', str(data)).replace('data/lakes', str(data)), '.py'
    )
    common = {
        'train_dataloader.num_workers': 0,
        'val_dataloader.num_workers': 0,
        'test_dataloader.num_workers': 0,
        'optim_wrapper.optimizer.lr': 3e-3,
        'work_dir': str(folder / 'run'),
    }
    for place, transform in (transforms or {}).items():
        config.train_dataloader.dataset.pipeline[place] = transform
    config.merge_from_dict(common | changes)
    config.dump(folder / 'job.py')
    return folder / 'job.py'


def classifier(folder, fields, **changes):
    epochs = {'train_cfg.max_epochs': 3, 'train_cfg.val_interval': 3}
    return job(folder, 0, fields, **{'param_scheduler': [], **epochs, **changes})


def segmentor(folder, lakes, **changes):
    short = {
        'train_cfg.max_iters': 8,
        'train_cfg.val_interval': 8,
        'default_hooks.checkpoint.interval': 8,
        'param_scheduler': [],
    }
    return job(folder, 1, lakes, **short, **changes)


def checkpoint(folder) -> str:
    (path,) = (folder / 'run').glob('[ei]*_[38].pth')
    return str(path)


def colours(path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert('RGB'))


def check_task_file(path: str) -> None:
    """The stem has trained and is in it; the base, of three bands, is not."""
    weights = load_from_local(path)['state_dict']
    record = read_record(weights['backbone.base_record'])
    assert record['signature']['in_channels'] == 6
    held = {name for name in weights if name.startswith('backbone.')}
    tuned = {STEM, 'backbone.pos_embed', 'backbone.base_record'}
    assert {name for name in held if not name.startswith('backbone.topdown.')} == tuned
    base = load_from_local(str(ROOT / 'toast_mm/weights/vit-1m_tinyin100.safetensors'))
    fitted = base['state_dict'][STEM].float().repeat(1, 2, 1, 1) / 2
    assert weights[STEM].shape == fitted.shape
    assert 0 < (weights[STEM] - fitted).abs().max() < 1


@pytest.mark.slow
def test_classifier(tool, fields, tmp_path):
    path = classifier(tmp_path, fields)
    tool('train', path)
    file = checkpoint(tmp_path)
    check_task_file(file)
    drawn = {
        'default_hooks.visualization.enable': 'True',
        'default_hooks.visualization.interval': '1',
        'default_hooks.visualization.out_dir': str(tmp_path / 'pictures'),
    }
    options = [f'{key}={value}' for key, value in drawn.items()]
    tool('test', path, file, '--out', tmp_path / 'out.pkl', '--cfg-options', *options)
    pictures = sorted((tmp_path / 'pictures').iterdir())
    assert len(pictures) == 6

    tool('visualization/attention', path, file, '--samples', 2, '--out', tmp_path / 'a.png')
    assert colours(tmp_path / 'a.png').std() > 10

    config = Config.fromfile(path)
    images = sorted((fields / 'val').glob('*/*.*'))
    assert {image.suffix for image in images} == {'.tif', '.npy'}
    tasks = MultiTask()
    tasks.add('fields', config.copy(), file)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        pipeline = Compose(config.test_dataloader.dataset.pipeline)
        batch = pseudo_collate([pipeline(dict(img_path=str(image))) for image in images])
    scores = torch.stack([sample.pred_score for sample in tasks(batch)['fields']])
    assert scores.argmax(1).tolist() == [0, 0, 0, 1, 1, 1]  # only the fifth band can tell

    with DefaultScope.overwrite_default_scope('mmpretrain'):
        inferencer = ImageClassificationInferencer(config, pretrained=file, device='cpu')
        load = LoadBandsFromFile(6)
        for image, expected in zip(images, scores, strict=True):
            given = inferencer(load.read(str(image)))[0]['pred_scores']
            np.testing.assert_allclose(given, expected.numpy(), atol=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings('ignore:Failed to add')
def test_segmentor(tool, lakes, tmp_path):
    path = segmentor(tmp_path, lakes)
    tool('train', path)
    file = checkpoint(tmp_path)
    check_task_file(file)
    hook = dict(type='SegVisualizationHook', draw=True, interval=1)
    options = [f'default_hooks.visualization.{key}={value}' for key, value in hook.items()]
    tool('test', path, file, '--cfg-options', *options)
    pictures = sorted((tmp_path / 'run').glob('*/vis_data/vis_image/*'))
    assert [picture.name for picture in pictures] == ['test_0.tif_1.png', 'test_1.tif_2.png']
    tool('visualization/attention', path, file, '--samples', 2, '--out', tmp_path / 'a.png')
    assert colours(tmp_path / 'a.png').std() > 10

    config = Config.fromfile(path)
    config.model.decode_head.norm_cfg.type = config.model.auxiliary_head.norm_cfg.type = 'BN'
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = init_model(config, file, device='cpu')
        labels = inference_model(model, str(lakes / 'val/images/0.tif')).pred_sem_seg.data
    truth = np.asarray(Image.open(lakes / 'val/masks/0.png'))
    assert labels.shape == (1, 96, 96)
    assert (labels[0].numpy() == truth).mean() > 0.8


@pytest.mark.parametrize(
    ('changes', 'sentence'),
    [
        (
            {'model.backbone.in_channels': 4},
            'LoadBandsFromFile loads 6 bands, but model.backbone.in_channels=4: the two must be',
        ),
        (
            {'model.data_preprocessor.mean': [1.0], 'model.data_preprocessor.std': [1.0]},
            'model.data_preprocessor.mean has 1 values, but model.backbone.in_channels=6: give',
        ),
        ({'model.backbone.in_channels': 0}, 'model.backbone.in_channels=0 must be at least 1'),
        ({'model.backbone.in_channels': '6'}, "model.backbone.in_channels='6' must be an integer"),
        (
            {'transforms': {2: dict(type='ColorJitter', brightness=0.3)}},
            'ColorJitter is for red, green and blue, but model.backbone.in_channels=6: take it out',
        ),
        (
            {
                'train_dataloader.dataset.pipeline.1.num_bands': 7,
                'train_dataloader.dataset.pipeline.1.bands': [0, 1, 2, 3, 4, 5],
            },
            r'class_\d/\d\.\w+ is an array of shape \(64, 64, 6\), which is no image of 7 bands',
        ),
        (
            {'model.data_preprocessor.to_rgb': True},
            r'to_rgb=True reverses three colours: leave it out',
        ),
        (
            {'transforms': {1: dict(type='LoadImageFromFile')}},
            r'failed to load image: .*class_\d/\d\.tif|class_\d/\d\.npy cannot',
        ),
    ],
)
def test_bands_that_do_not_fit(tool, fields, tmp_path, changes, sentence):
    path = classifier(tmp_path, fields, **changes)
    with pytest.raises((SystemExit, ValueError), match=sentence):
        tool('train', path)


def test_the_area_of_more_than_four_bands(tool, lakes, tmp_path):
    area = {3: dict(type='Resize', scale=(9, 9), interpolation='area')}
    with pytest.raises((SystemExit, ValueError), match="'area' takes at most 4 bands: use 'bili"):
        tool('train', segmentor(tmp_path, lakes, transforms=area))


def test_segmentation_without_our_preprocessor(tool, lakes, tmp_path):
    path = segmentor(tmp_path, lakes, **{'model.data_preprocessor.type': 'SegDataPreProcessor'})
    with pytest.raises((SystemExit, ValueError), match=r'use toast_mm\.BandSegDataPreProcessor'):
        tool('train', path)


def test_a_frozen_stem(tool, fields, tmp_path):
    """Its first passes can be cached."""
    frozen = {'model.backbone.tune_stem': False, 'first_pass_cache.folder': str(tmp_path / 'cache')}
    sure = {2: dict(type='Resize', scale=(64, 64)), 3: dict(type='CenterCrop', crop_size=64)}
    tool('train', classifier(tmp_path, fields, **frozen, transforms=sure))
    assert STEM not in load_from_local(checkpoint(tmp_path))['state_dict']
    assert len(list((tmp_path / 'cache').iterdir())) >= 2
