"""What the page shows and offers for download is the prediction."""

import numpy as np
import pytest
import torch
from PIL import Image

from toast_mm.apis import Segmentation, load
from toast_mm.demo import Limits, answer, read_upload
from toast_mm.demo.answers import (
    attention_picture,
    default_block,
    legend,
    save_files,
    smaller,
)
from toast_mm.visualization import attention_maps


@pytest.fixture(scope='module')
def picture(photo):
    return read_upload(str(photo), 'photo.jpg', Limits())


@pytest.fixture(scope='module')
def streets(task_folder):
    return load(task_folder / 'streets.pth', device='cpu')


@pytest.fixture(scope='module')
def street(streets, picture):
    return answer(streets, picture)


def test_the_mask_holds_the_labels_that_predict_finds(streets, street, photo, tmp_path):
    expected = streets.predict(str(photo))[0].labels
    assert expected.shape == (1200, 900)  # upright
    assert len(np.unique(expected)) > 1
    files = save_files(street.result, '../holi day<1>.jpg', tmp_path)
    assert set(files) == {'overlay', 'mask'}
    assert files['mask'] == str(tmp_path / 'holi_day_1__mask.png')
    with Image.open(files['mask']) as mask:
        assert mask.mode == 'P'
        assert np.array_equal(mask, expected)
        colours = np.asarray(mask.convert('RGB'))
    assert np.array_equal(colours, np.asarray(streets.palette, np.uint8)[expected])
    with Image.open(files['overlay']) as overlay:
        assert np.array_equal(overlay, street.result.overlay())


def test_a_class_has_an_overlay_and_no_mask(task_folder, picture, photo, tmp_path):
    birds = load(task_folder / 'birds.pth', device='cpu')
    found = answer(birds, picture)
    expected = birds.predict(str(photo))[0]
    np.testing.assert_allclose(found.result.scores, expected.scores, rtol=1e-4)
    assert set(save_files(found.result, '...', tmp_path)) == {'overlay'}
    assert (tmp_path / 'picture_overlay.png').is_file()
    save_files(found.result, f'{"ab" * 300}.jpg', tmp_path)  # longer than a file name may be
    assert (tmp_path / f'{"ab" * 40}_overlay.png').is_file()


def test_the_maps_are_those_of_all_blocks(streets, street, picture):
    packed = streets.preparation(picture).packed
    inputs = streets.model.data_preprocessor(
        dict(inputs=[packed['inputs']], data_samples=[packed['data_samples']]), False
    )['inputs']
    expected = attention_maps(streets.model.backbone, inputs, range(6))
    assert [*street.attention.maps] == [*range(6)]
    for block, maps in street.attention.maps.items():
        torch.testing.assert_close(maps.mask, expected[block].mask)
        for own, other in zip(
            (maps.first, maps.second), (expected[block].first, expected[block].second), strict=True
        ):
            assert (own is None) == (other is None)
            if own is not None:
                torch.testing.assert_close(own, other)


def test_pictures_of_blocks(street):
    start = default_block(street.attention)
    assert street.attention.maps[start].difference is not None
    assert start == 5 or street.attention.maps[start + 1].difference is None
    pictures = [attention_picture(street.attention, block) for block in (0, start)]
    assert [caption for _, caption in pictures] == [
        'TOAST: block 0 of 0 to 5',
        f'TOAST: block {start} of 0 to 5',
    ]
    assert not np.array_equal(pictures[0][0], pictures[1][0])
    assert pictures[0][0].dtype == np.uint8
    _, caption = attention_picture(street.attention, 99)  # of another, deeper model
    assert caption == 'TOAST: block 5 of 0 to 5'


def test_without_maps_there_is_a_reason(streets, picture, monkeypatch):
    monkeypatch.setattr(streets.model, 'backbone', torch.nn.Identity())
    monkeypatch.setattr(streets, 'predict', lambda picture: ['result'])
    found = answer(streets, picture)
    assert (found.result, found.attention) == ('result', None)
    assert found.reason.endswith('this is a Identity')


def test_legend_and_small_picture():
    labels = np.zeros((3000, 20), np.uint8)
    labels[:750] = 2
    image = np.full((3000, 20, 3), 7, np.uint8)
    palette = [[1, 2, 3], [4, 5, 6], [255, 128, 0]]
    result = Segmentation(image, None, labels, ['a', 'b', 'c'], palette)
    assert legend(result) == {'a 75.0%': (0, '#010203'), 'c 25.0%': (2, '#ff8000')}
    small = smaller(result)
    assert small.image.shape[:2] == small.labels.shape == (1024, 7)
    assert (small.labels[:256] == 2).all()
    assert (small.labels[256:] == 0).all()
    assert result.labels.shape == (3000, 20)
