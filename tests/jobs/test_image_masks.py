"""Images and masks: what is found, drawn and refused."""

from collections import Counter

import numpy as np
import pytest
from own_images import write_pairs
from PIL import Image

from toast_mm.jobs import DataError, read_layout


def label_of(root, name):
    """The class of an image beside the background, from the pixels of its mask."""
    with Image.open(root / 'annotations' / f'{name}.png') as mask:
        return int(np.array(mask).max())


def test_the_draw_is_stratified_by_the_pixels(tmp_path):
    write_pairs(tmp_path, [1] * 12 + [2] * 4)
    (tmp_path / 'classes.txt').write_text('ground\npoppy\nrye\n')
    data = read_layout(tmp_path, held_out=0.25, seed=3)
    of_split = {
        split: Counter(label_of(tmp_path, name) for name in data.samples[split])
        for split in ('train', 'val')
    }
    assert of_split == dict(train={1: 9, 2: 3}, val={1: 3, 2: 1})
    assert not {*data.samples['train']} & {*data.samples['val']}
    assert data.samples == read_layout(tmp_path, held_out=0.25, seed=3).samples
    assert data.samples != read_layout(tmp_path, held_out=0.25, seed=4).samples


def test_classes_colours_and_suffixes(fields):
    data = read_layout(fields)
    assert data.task == 'segmentation'
    assert data.dataset() == dict(
        type='BaseSegDataset',
        data_root=str(fields),
        metainfo=dict(
            classes=['ground', 'red poppy', 'rye'], palette=[[0, 0, 0], [200, 0, 0], [0, 200, 0]]
        ),
        img_suffix='.jpg',
        seg_map_suffix='.png',
    )
    assert data.place('') == dict(data_prefix=dict(img_path='images', seg_map_path='annotations'))


def test_splits_of_the_user_stay(tmp_path):
    write_pairs(tmp_path, [1, 2, 1], 'train')
    write_pairs(tmp_path, [1], 'val')
    (tmp_path / 'classes.txt').write_text('ground\npoppy\nrye\nsky\n')
    data = read_layout(tmp_path)
    assert data.folders == dict(train='train', val='val', test='val')
    assert [len(data.samples[s]) for s in ('train', 'val')] == [3, 1]
    assert data.notes == ["no mask has the label of class 'sky'"]
    assert 'palette' not in data.dataset()['metainfo']
    assert data.place('val')['data_prefix']['seg_map_path'] == 'annotations/val'


def lone_image(root):
    (root / 'annotations' / '1.png').unlink()
    return f'1 of 4 images have no mask: there is {root}/images/1.jpg, but no {root}/annotations/1'


def lone_mask(root):
    (root / 'images' / '2.jpg').unlink()
    return f'1 of 4 masks have no image: there is {root}/annotations/2.png, but no {root}/images/2'


def wrong_label(root):
    (root / 'classes.txt').write_text('ground\npoppy\n')
    return f'{root}/annotations/1.png has the label 2, but .* names 2 classes: labels are 0 to 1'


def colours(root):
    Image.new('RGB', (20, 16)).save(root / 'annotations' / '0.png')
    return 'has 3 channels, but a mask has one channel'


def no_classes(root):
    (root / 'classes.txt').unlink()
    return f'{root}/classes.txt does not exist: it has a line per class'


def one_class(root):
    (root / 'classes.txt').write_text('ground\n')
    return 'names one class'


def same_class_twice(root):
    (root / 'classes.txt').write_text('ground\npoppy\npoppy\n')
    return "the class 'poppy' is there already"


def two_suffixes(root):
    (root / 'images' / '0.jpg').rename(root / 'images' / '0.jpeg')
    return 'has 3 .jpg, 1 .jpeg: mmseg reads one suffix'


def no_masks(root):
    (root / 'annotations').rename(root / 'labels')
    return f'{root}/annotations does not exist: it has a mask for every image'


@pytest.mark.parametrize(
    'spoil',
    [lone_image, lone_mask, wrong_label, colours, no_classes, one_class, same_class_twice,
     two_suffixes, no_masks],
)  # fmt: skip
def test_unusable_folders(tmp_path, spoil):
    write_pairs(tmp_path, [1, 2, 1, 2])
    (tmp_path / 'classes.txt').write_text('ground\npoppy\nrye\n')
    message = spoil(tmp_path)
    with pytest.raises(DataError, match=message):
        read_layout(tmp_path)
