"""Data, preprocessing and backbone must have the same number of bands."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.dataset import BaseDataset, ConcatDataset, RepeatDataset
from mmengine.registry import MODEL_WRAPPERS, MODELS, DefaultScope
from mmpretrain.structures import DataSample
from small_backbones import VIT
from torch import nn

from toast_mm.engine.bands import band_loader, other_bands, other_images

LOAD = dict(type='toast_mm.LoadBandsFromFile', num_bands=6)


def model(bands, preprocessor, **arguments):
    backbone = dict(type='toast_mm.TOASTViT', in_channels=bands, feedback_from=None, **VIT)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return MODELS.build(
            dict(
                type='mmpretrain.ImageClassifier',
                backbone=backbone,
                data_preprocessor=dict(type=preprocessor, **arguments),
            )
        )


def bands_model(bands, **arguments):
    statistics = dict(mean=[1.0] * bands, std=[1.0] * bands)
    return model(bands, 'ClsDataPreprocessor', **(statistics | arguments))


def data(*transforms, scope='mmpretrain'):
    with DefaultScope.overwrite_default_scope(scope):
        return BaseDataset(pipeline=list(transforms), lazy_init=True)


def test_what_fits():
    resize = dict(type='Resize', scale=(8, 8))
    assert other_bands(bands_model(6), data(LOAD, resize)) is None
    assert other_bands(bands_model(2), data(LOAD | dict(bands=[3, 1]), resize)) is None
    colours = data(dict(type='LoadImageFromFile'), dict(type='ColorJitter'))
    assert other_bands(bands_model(3, to_rgb=True), colours) is None
    assert other_bands(bands_model(3, mean=[127.5], std=[127.5]), colours) is None
    assert other_bands(bands_model(3, mean=None, std=None), colours) is None
    assert other_bands(SimpleNamespace(backbone=nn.Identity()), colours) is None


def test_under_a_wrapper_of_several_processes():
    class Wrapper(nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module = module

    MODEL_WRAPPERS.register_module(module=Wrapper, name='test_band_checks.Wrapper')
    try:
        wrapped = Wrapper(bands_model(5))
        assert 'in_channels=5' in other_bands(wrapped, data(LOAD))
        assert 'in_channels=5' in other_images(wrapped, dict(inputs=[torch.zeros(6, 8, 8)]))
    finally:
        MODEL_WRAPPERS.module_dict.pop('test_band_checks.Wrapper')


def test_other_numbers_of_bands():
    sentence = other_bands(bands_model(5), data(LOAD))
    assert sentence == (
        'LoadBandsFromFile loads 6 bands, but model.backbone.in_channels=5: the two must be equal'
    )
    for given in (1, 3):
        six = bands_model(6, mean=[1.0] * given, std=[1.0] * 6)
        assert other_bands(six, data(LOAD)) == (
            f'model.data_preprocessor.mean has {given} values, but model.backbone.in_channels=6: '
            'give one value per band'
        )
    wrong = ConcatDataset([data(LOAD), data(LOAD | dict(bands=[0]))], lazy_init=True)
    assert other_bands(bands_model(6), wrong).startswith('LoadBandsFromFile loads 1 bands')
    assert other_bands(bands_model(6, to_rgb=True), data(LOAD)) == (
        'model.data_preprocessor converts BGR to RGB, but model.backbone.in_channels=6: leave it '
        'out'
    )


@pytest.mark.parametrize(
    ('scope', 'transform'),
    [
        ('mmpretrain', dict(type='ColorJitter', brightness=0.3)),
        ('mmpretrain', dict(type='AutoAugment', policies='imagenet')),
        ('mmpretrain', dict(type='Lighting', eigval=[1] * 3, eigvec=[[1] * 3] * 3)),
        ('mmpretrain', dict(type='RandomErasing')),
        ('mmseg', dict(type='PhotoMetricDistortion')),
        ('mmseg', dict(type='CLAHE')),
    ],
)
def test_transforms_of_colours(scope, transform):
    name = transform['type']
    nested = dict(type='RandomApply', transforms=[transform], prob=0.5)
    choice = dict(
        type='RandomChoice', transforms=[[dict(type='RandomFlip', prob=1.0)], [transform]]
    )
    for given in (transform, nested, choice):
        dataset = RepeatDataset(data(LOAD, given, scope=scope), 2, lazy_init=True)
        assert other_bands(bands_model(6), dataset) == (
            f'{name} is for red, green and blue, but model.backbone.in_channels=6: take it out of '
            'the pipeline'
        )
        assert other_bands(bands_model(3), data(given, scope=scope)) is None


def test_images_of_a_batch():
    samples = [DataSample(metainfo=dict(img_path=path)) for path in ('a.tif', 'b.tif')]
    images = [torch.zeros(6, 4, 4), torch.zeros(1, 4, 4)]
    sentence = 'has 1 bands, but model.backbone.in_channels=6: the two must be equal'
    found = other_images(bands_model(6), dict(inputs=images, data_samples=samples))
    assert found == f'b.tif {sentence}'
    assert other_images(bands_model(6), dict(inputs=images[1:])) == f'an image {sentence}'
    stacked = dict(inputs=torch.zeros(2, 6, 4, 4), data_samples=samples)
    assert other_images(bands_model(6), stacked) is None
    assert other_images(nn.Identity(), stacked) is None
    assert other_images(bands_model(6), [images]) is None


def test_the_loader_of_a_data_set():
    dataset = data(LOAD)
    loader = dataset.pipeline.transforms[0]
    assert band_loader(dataset) is loader
    assert band_loader(RepeatDataset(dataset, 2, lazy_init=True)) is loader
    assert band_loader(data(dict(type='LoadImageFromFile'))) is None
    assert band_loader(BaseDataset(lazy_init=True)) is None
