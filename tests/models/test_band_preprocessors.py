"""Means and standard deviations of any number of bands, in classifiers and segmentors."""

import pytest
import torch
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import PixelData
from mmpretrain.structures import DataSample
from mmseg.structures import SegDataSample

KINDS = ['BandClsDataPreprocessor', 'BandSegDataPreProcessor']
kinds = pytest.mark.parametrize('kind', KINDS)


def build(kind, **arguments):
    with DefaultScope.overwrite_default_scope('mmpretrain' if 'Cls' in kind else 'mmseg'):
        return MODELS.build(dict(type=f'toast_mm.{kind}', **arguments))


def statistics(bands):
    return dict(mean=[10.0 * n for n in range(bands)], std=[1.0 + n for n in range(bands)])


@pytest.mark.parametrize('bands', [1, 2, 6, 16])
@kinds
def test_each_band_is_normalised(kind, bands):
    image = torch.rand(bands, 4, 5)
    batch = dict(inputs=[image], data_samples=None)
    images = build(kind, **statistics(bands))(batch)['inputs']
    expected = torch.stack([(image[n] - 10 * n) / (1 + n) for n in range(bands)])
    torch.testing.assert_close(torch.stack(list(images)), expected[None])


def test_a_stacked_batch():
    images = torch.rand(2, 6, 4, 5)
    out = build(KINDS[0], **statistics(6))(dict(inputs=images))['inputs']
    torch.testing.assert_close(out[1, 2], (images[1, 2] - 20) / 3)


@pytest.mark.parametrize('bands', [1, 6])
def test_padding(bands):
    sample = SegDataSample(metainfo=dict(img_shape=(4, 5)))
    sample.gt_sem_seg = PixelData(data=torch.zeros(1, 4, 5))
    preprocessor = build(KINDS[1], **statistics(bands), size=(8, 8), pad_val=7)
    batch = preprocessor(dict(inputs=[torch.ones(bands, 4, 5)], data_samples=[sample]), True)
    assert batch['inputs'].shape == (1, bands, 8, 8)
    assert (batch['inputs'][:, :, 4:] == 7).all()


@pytest.mark.parametrize(('given', 'means'), [(1, 6), (6, 1), (3, 1), (1, 3), (4, 6)])
@kinds
def test_nothing_is_broadcast(kind, given, means):
    preprocessor = build(kind, **statistics(means))
    sample = (DataSample if 'Cls' in kind else SegDataSample)(metainfo=dict(img_path='a.tif'))
    wrong = [torch.zeros(given, 4, 5)]
    sentence = rf'a\.tif has {given} bands, but mean and std of .* have {means} values: give one'
    with pytest.raises(ValueError, match=sentence):
        preprocessor(dict(inputs=wrong, data_samples=[sample]))
    with pytest.raises(ValueError, match=f'an image has {given} bands'):
        preprocessor(dict(inputs=wrong))


@kinds
def test_wrong_arguments(kind):
    with pytest.raises(ValueError, match='mean has 6 values, and std 5: give one of each per band'):
        build(kind, mean=[0.0] * 6, std=[1.0] * 5)
    name = 'to_rgb' if 'Cls' in kind else 'bgr_to_rgb'
    with pytest.raises(ValueError, match=rf'{name}=True reverses three colours: leave it out'):
        build(kind, **statistics(6), **{name: True})
    assert build(kind, **statistics(6), **{name: False})


@pytest.mark.parametrize('kind', ['TimmClsDataPreprocessor', 'TimmSegDataPreProcessor'])
def test_timm_knows_no_means_of_other_bands(kind):
    sentence = 'mean has 6 values, but .* was trained with three bands: use toast_mm.BandCls'
    with pytest.raises(ValueError, match=sentence):
        build(kind, model_name='vit_base_patch16_clip_224', **statistics(6))
