"""A model of timm is told of images that it was not trained with."""

from types import SimpleNamespace

import pytest
from mmengine.registry import MODELS, DefaultScope
from mmpretrain.models import ClsDataPreprocessor
from mmseg.models import SegDataPreProcessor
from torch import nn

from toast_mm.engine.normalisation import other_normalisation
from toast_mm.models import TimmClsDataPreprocessor, TimmSegDataPreProcessor, TOASTTimm

NAME = 'vit_tiny_patch16_224'
HALF = [127.5] * 3
INIT = dict(type='Pretrained', checkpoint='x.pth')


def model(preprocessor, name=NAME, init_cfg=INIT, **parts):
    sizes = dict(embed_dim=12, depth=2, num_heads=2, out_type='raw')
    backbone = TOASTTimm(name, init_cfg=init_cfg, **sizes)
    return SimpleNamespace(data_preprocessor=preprocessor, backbone=backbone, **parts)


@pytest.mark.parametrize(
    'preprocessor',
    [
        TimmClsDataPreprocessor(NAME),
        TimmSegDataPreProcessor(NAME),
        ClsDataPreprocessor(HALF, HALF, to_rgb=True),
        SegDataPreProcessor(HALF, HALF, bgr_to_rgb=True),
    ],
)
def test_the_normalisation_of_the_training(preprocessor):
    assert other_normalisation(model(preprocessor)) is None


def test_a_segmentor():
    """mmseg builds its preprocessor from the config, before the backbone."""
    backbone = dict(
        type='toast_mm.TOASTTimm', model_name=NAME, embed_dim=12, depth=2, num_heads=2,
        out_type='featmap', init_cfg=INIT,
    )  # fmt: skip
    head = dict(type='FCNHead', in_channels=12, channels=4, num_classes=3)
    cfg = dict(type='EncoderDecoder', backbone=backbone, decode_head=head, test_cfg={})
    with DefaultScope.overwrite_default_scope('mmseg'):
        right = dict(type='toast_mm.TimmSegDataPreProcessor', model_name=NAME, size=(32, 32))
        segmentor = MODELS.build(dict(cfg, data_preprocessor=right))
        assert segmentor.data_preprocessor.mean.flatten().tolist() == HALF
        assert other_normalisation(segmentor) is None
        wrong = dict(type='SegDataPreProcessor', size=(32, 32))
        segmentor = MODELS.build(dict(cfg, data_preprocessor=wrong))
        assert 'use toast_mm.TimmSegDataPreProcessor' in other_normalisation(segmentor)


@pytest.mark.parametrize(
    ('preprocessor', 'segments', 'wrong', 'right'),
    [
        (
            ClsDataPreprocessor(to_rgb=True),
            False,
            f'mean=None instead of {HALF}, std=None instead of {HALF}',
            'TimmClsDataPreprocessor',
        ),
        (
            SegDataPreProcessor([123.0, 116.0, 103.0], HALF, bgr_to_rgb=True),
            True,
            f'mean=[123.0, 116.0, 103.0] instead of {HALF}',
            'TimmSegDataPreProcessor',
        ),
        (
            ClsDataPreprocessor(HALF, HALF),
            False,
            'BGR, as mmcv reads images, instead of RGB',
            'TimmClsDataPreprocessor',
        ),
    ],
)
def test_another_normalisation(preprocessor, segments, wrong, right):
    parts = dict(decode_head=None) if segments else {}
    assert other_normalisation(model(preprocessor, **parts)) == (
        f'model.data_preprocessor gives other images than {NAME} was trained with, {wrong}: use '
        f'toast_mm.{right} with this model_name'
    )


@pytest.mark.parametrize(
    'made',
    [
        model(ClsDataPreprocessor(), init_cfg=None),
        model(ClsDataPreprocessor(), name='vit_base_patch16_gap_224'),
        model(ClsDataPreprocessor([1.0] * 6, [1.0] * 6)),
        SimpleNamespace(data_preprocessor=ClsDataPreprocessor(), backbone=nn.Identity()),
        nn.Identity(),
    ],
    ids=['random weights', 'unknown', 'six bands', 'another backbone', 'no backbone'],
)
def test_nothing_to_compare(made):
    assert other_normalisation(made) is None
