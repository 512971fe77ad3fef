"""Images normalised as a model of timm was trained with, in classifiers and segmentors."""

import pytest
import torch
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

NAME = 'vit_base_patch16_clip_224'
MEAN = [0.48145466 * 255, 0.4578275 * 255, 0.40821073 * 255]
STD = [0.26862954 * 255, 0.26130258 * 255, 0.27577711 * 255]
IMAGE = torch.arange(3 * 4 * 4).view(3, 4, 4).to(torch.uint8)
KINDS = ['TimmClsDataPreprocessor', 'TimmSegDataPreProcessor']


def build(kind, **arguments):
    with DefaultScope.overwrite_default_scope('mmpretrain' if 'Cls' in kind else 'mmseg'):
        return MODELS.build(dict(type=f'toast_mm.{kind}', **arguments))


@pytest.mark.parametrize('kind', KINDS)
def test_an_image_is_normalised(kind):
    """It comes in BGR, and goes out in RGB."""
    preprocessor = build(kind, model_name=NAME)
    images = preprocessor(dict(inputs=[IMAGE], data_samples=None))['inputs']
    expected = (IMAGE.flip(0) - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    torch.testing.assert_close(torch.stack(list(images)), expected[None])


def test_other_arguments_are_those_of_the_class():
    preprocessor = build('TimmSegDataPreProcessor', model_name=NAME, size=(8, 8), seg_pad_val=7)
    sample = SegDataSample()
    sample.gt_sem_seg = PixelData(data=torch.zeros(1, 4, 4))
    sample.set_metainfo(dict(img_shape=(4, 4)))
    data = preprocessor(dict(inputs=[IMAGE], data_samples=[sample]), training=True)
    assert data['inputs'].shape == (1, 3, 8, 8)
    assert data['data_samples'][0].gt_sem_seg.data[0, 7, 7] == 7


@pytest.mark.parametrize('kind', KINDS)
def test_what_a_base_config_says(kind):
    rounded = dict(mean=[122.771, 116.746, 104.094], std=[68.5, 66.632, 70.323])
    assert build(kind, model_name=NAME, **rounded).mean.flatten().tolist() == pytest.approx(MEAN)
    with pytest.raises(ValueError, match=rf'mean=\[0, 0, 0\] contradicts {NAME}, which has mean='):
        build(kind, model_name=NAME, mean=[0, 0, 0])
    converts = 'to_rgb' if 'Cls' in kind else 'bgr_to_rgb'
    with pytest.raises(ValueError, match=f'{converts}=False contradicts .*: leave it out'):
        build(kind, model_name=NAME, **{converts: False})


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('vit_base_patch16_clip_225', 'no model of timm; near names: vit_base_patch16_clip_224'),
        ('vit_base_patch16_clip_224.x', r'has no such weights in timm; there are: .*\.laion2b'),
        ('vit_base_patch16_gap_224', 'timm does not say how images are normalised .*: say mean'),
    ],
)
def test_models_that_timm_does_not_know(name, message):
    with pytest.raises(ValueError, match=message):
        build('TimmClsDataPreprocessor', model_name=name)
