"""Attention maps from Python: those of the package, of the image that the model sees."""

import numpy as np
import pytest
import torch
from PIL import Image

from toast_mm.apis import Attention, load
from toast_mm.visualization import AttentionMaps, attention_maps


@pytest.fixture(scope='module')
def predictor(birds):
    return load(birds.task_file, device='cpu')


@pytest.fixture(scope='module')
def found(predictor, photos):
    return predictor.attention(photos, blocks=[0, -1], progress=False)


def test_maps(predictor, found, photos):
    assert [result.path for result in found] == photos
    for result in found:
        assert isinstance(result, Attention) and list(result.maps) == [0, 5]
        np.testing.assert_array_equal(result.image.shape, (64, 64, 3))  # as the model sees it
    image = np.asarray(Image.open(photos[0]).resize((64, 64), Image.Resampling.BILINEAR))
    assert np.abs(found[0].image.astype(int) - image).mean() < 20  # RGB, not BGR
    inputs = predictor.preparation(photos[1]).packed['inputs'][None].float()
    inputs = (inputs.flip(1) - predictor.model.data_preprocessor.mean) / (
        predictor.model.data_preprocessor.std
    )
    for block, expected in attention_maps(predictor.model.backbone, inputs, [0, 5]).items():
        maps = found[1].maps[block]
        torch.testing.assert_close(maps.mask, expected.mask)
        torch.testing.assert_close(maps.first, expected.first)
        torch.testing.assert_close(maps.second, expected.second)
    (last,) = predictor.attention(photos[0])
    assert len(last.maps) == 1


def test_pictures(found, tmp_path):
    result = found[0]
    result.save(tmp_path / 'attention.png')
    assert Image.open(tmp_path / 'attention.png').size[0] > 400
    means, heads = result.figure(), result.figure(heads=True)
    lines = [len({axes.get_subplotspec().rowspan.start for axes in f.axes}) for f in (means, heads)]
    assert lines == [2, 8]  # four heads in two blocks
    assert 'TOAST' in repr(result) and 'block 0, 5' in repr(result)
    assert found._repr_html_().count('<img') == 3


def test_overlays(found):
    result = found[0]
    maps = result.maps[5].mean()
    drawn = {which: result.overlay(5, which) for which in ('first', 'second', 'mask')}
    for overlay in drawn.values():
        assert overlay.shape == result.image.shape and overlay.dtype == np.uint8
    np.testing.assert_array_equal(result.overlay(), drawn['second'])
    gray = result.image.mean(axis=-1)
    colour = drawn['first'].astype(float) - 0.4 * gray[..., None]  # 0.6 of the colour map
    row, column = np.unravel_index(int(maps.first[0, 0].argmax()), maps.first.shape[-2:])
    middle = colour[row * 8 + 4, column * 8 + 4].sum()
    dark = np.unravel_index(int(maps.first[0, 0].argmin()), maps.first.shape[-2:])
    assert middle > colour[dark[0] * 8 + 4, dark[1] * 8 + 4].sum() + 100
    with pytest.raises(KeyError, match=r'no maps of block 3; there are: \[0, 5\]'):
        result.overlay(3)
    with pytest.raises(ValueError, match="which='third': there is no such map; there are: "):
        result.overlay(which='third')


def test_a_padded_image():
    """The maps cover the padding too, which the overlay leaves out."""
    weights = torch.zeros(1, 1, 2, 4)
    weights[..., 2:] = 1  # only in the padding on the right
    maps = {0: AttentionMaps(mask=None, first=weights, second=None, what='attention')}
    image = np.full((8, 8, 3), 100, np.uint8)
    overlay = Attention(image, None, maps, 'linear probe', (1.0, 2.0)).overlay()
    black = (0.4 * 100 + 0.6 * np.array([0.001462, 0.000466, 0.013866]) * 255).round()
    np.testing.assert_array_equal(overlay[:, :6], np.broadcast_to(black, (8, 6, 3)))


def test_a_model_without_maps(photos):
    plain = load('toast_mm::pretrain/vit-1m_1xb128-75e_tinyin100-64x64.py', device='cpu')
    with pytest.raises(ValueError, match='attention maps need a backbone of toast_mm'):
        plain.attention(photos[0])
