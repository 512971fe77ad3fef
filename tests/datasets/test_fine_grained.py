"""The five data sets in the layouts of their authors and as split files."""

import json

import numpy as np
import pytest
from mmengine.registry import DATASETS
from PIL import Image
from scipy.io import savemat

import toast_mm.datasets

NAMES = ['CUB', 'NABirds', 'Flowers102', 'StanfordDogs', 'StanfordCars']
# Five images in folders of two classes; the last two are for testing.
PATHS = ['b/1.jpg', 'a/2.jpg', 'a/3.jpg', 'b/4.jpg', 'a/5.jpg']


def image(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', (8, 8)).save(path)


def lists(root, ids, classes):
    """The text files that CUB and NABirds share."""
    for name, values in {
        'images': PATHS,
        'image_class_labels': classes,
        'train_test_split': [1, 1, 1, 0, 0],
    }.items():
        lines = [f'{id} {value}' for id, value in zip(ids, values, strict=True)]
        (root / f'{name}.txt').write_text('\n'.join(lines))
    for path in PATHS:
        image(root / 'images' / path)


def cells(*values):
    """A column of cells, as MATLAB writes strings."""
    array = np.empty((len(values), 1), object)
    array[:, 0] = values
    return array


def cub(root):
    lists(root, range(1, 6), [2, 1, 1, 2, 1])


def nabirds(root):
    lists(root, ['x-1', 'x-2', 'x-3', 'x-4', 'x-5'], [1010, 295, 295, 1010, 295])


def flowers(root):
    for number in range(1, 6):
        image(root / 'jpg' / f'image_{number:05}.jpg')
    savemat(root / 'imagelabels.mat', dict(labels=np.array([2, 1, 1, 2, 1])))
    splits = dict(trnid=np.array([1, 2]), valid=np.array([3, 3]), tstid=np.array([4, 5]))
    savemat(root / 'setid.mat', splits)


def dogs(root):
    for path in PATHS:
        image(root / 'Images' / path)
    for name, part in (('train', slice(3)), ('test', slice(3, 5))):
        labels = np.array([2, 1, 1, 2, 1])[part, None]
        savemat(
            root / f'{name}_list.mat',
            dict(file_list=cells(*PATHS[part]), labels=labels),
            do_compression=True,
        )


def cars(root):
    annotations = np.zeros(
        (1, 5), [('relative_im_path', object), ('class', object), ('test', object)]
    )
    for number, path in enumerate(PATHS):
        image(root / path)
        annotations[0, number] = (path, [2, 1, 1, 2, 1][number], int(number > 2))
    savemat(root / 'cars_annos.mat', dict(annotations=annotations))


LAYOUTS = dict(zip(NAMES, [cub, nabirds, flowers, dogs, cars], strict=True))
FOLDERS = dict(zip(NAMES, ['images', 'images', '', 'Images', ''], strict=True))


def make(name, root, split, **kwargs):
    return DATASETS.build(
        dict(type=f'toast_mm.{name}', data_root=str(root), split=split, pipeline=[], **kwargs)
    )


def content(dataset, root):
    return [
        (str(info['img_path']).removeprefix(f'{root}/'), info['gt_label'])
        for info in (dataset.get_data_info(index) for index in range(len(dataset)))
    ]


@pytest.mark.parametrize('name', NAMES)
def test_original_layout(name, tmp_path):
    LAYOUTS[name](tmp_path)
    folder = FOLDERS[name]
    paths = [f'{folder}/{path}'.lstrip('/') for path in PATHS]
    if name == 'Flowers102':
        paths = [f'jpg/image_{number:05}.jpg' for number in range(1, 6)]
    labels = [1, 0, 0, 1, 0]
    expected = list(zip(paths, labels, strict=True))
    test = make(name, tmp_path, 'test')
    assert content(test, tmp_path) == expected[3:]
    trainval = content(make(name, tmp_path, 'trainval'), tmp_path)
    if name == 'Flowers102':
        assert trainval == [*expected[:3], expected[2]]
        assert content(make(name, tmp_path, 'val'), tmp_path) == [expected[2]] * 2
        assert content(make(name, tmp_path, 'train'), tmp_path) == expected[:2]
    else:
        assert trainval == expected[:3]
        assert content(make(name, tmp_path, 'train'), tmp_path) == expected[:3]
        with pytest.raises(ValueError, match=rf"{name}: the original layout .* no split 'val'"):
            make(name, tmp_path, 'val')


def write_splits(root, folder='images', **splits):
    for split, entries in splits.items():
        (root / f'{split}.json').write_text(json.dumps(entries))
        for path in entries:
            image(root / folder / path)


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('beside_the_original', [False, True])
def test_split_files(name, tmp_path, beside_the_original):
    """Ids are mapped over all splits: 30 stands in the test part alone."""
    if beside_the_original:
        LAYOUTS[name](tmp_path)
    folder = FOLDERS[name]
    write_splits(
        tmp_path,
        folder,
        train={'a/1.jpg': 50, 'a/2.jpg': '7'},
        val={'b/3.jpg': 7},
        test={'c/4.jpg': 30},
    )
    expected = [
        (f'{folder}/{path}'.lstrip('/'), label)
        for path, label in [('a/1.jpg', 2), ('a/2.jpg', 0), ('b/3.jpg', 0), ('c/4.jpg', 1)]
    ]
    for split, part in {
        'train': expected[:2],
        'val': expected[2:3],
        'trainval': expected[:3],
        'test': expected[3:],
    }.items():
        dataset = make(name, tmp_path, split)
        assert content(dataset, tmp_path) == part
        assert dataset.metainfo['classes'] == ['7', '30', '50']


def test_a_file_of_train_and_val(tmp_path):
    write_splits(tmp_path, trainval={'a/1.jpg': 4}, test={'a/2.jpg': 9})
    assert content(make('CUB', tmp_path, 'trainval'), tmp_path) == [('images/a/1.jpg', 0)]
    assert content(make('CUB', tmp_path, 'test'), tmp_path) == [('images/a/2.jpg', 1)]
    with pytest.raises(FileNotFoundError, match=r'/train\.json does not .*trainval\.json, test\.'):
        make('CUB', tmp_path, 'train')


def test_layout_and_split_files_do_not_mix(tmp_path):
    """The layout's training part would hold the images of val.json, under other labels."""
    cub(tmp_path)
    write_splits(tmp_path, val={PATHS[0]: 2})
    for split in ('train', 'trainval', 'test'):
        with pytest.raises(
            FileNotFoundError, match=rf'/{split}\.json does not exist, but val\.json'
        ):
            make('CUB', tmp_path, split)
    write_splits(tmp_path, train={PATHS[1]: 1, PATHS[0]: 2}, test={PATHS[3]: 2})
    with pytest.raises(ValueError, match=rf'val\.json: {PATHS[0]} is in train\.json as well'):
        make('CUB', tmp_path, 'trainval')


def test_an_image_that_is_missing_is_named(tmp_path):
    write_splits(tmp_path, test={'a/1.jpg': 4})
    (tmp_path / 'images' / 'a' / '1.jpg').unlink()
    with pytest.raises(
        FileNotFoundError, match=r'test\.json names .*images/a/1\.jpg, which does not'
    ):
        make('CUB', tmp_path, 'test')


def test_names_of_classes(tmp_path):
    write_splits(tmp_path, trainval={f'{id}.jpg': id for id in range(1, 201)})
    names = make('CUB', tmp_path, 'trainval').metainfo['classes']
    assert names == toast_mm.datasets.CUB.METAINFO['classes']
    own = make('NABirds', tmp_path, 'trainval', metainfo=dict(classes=['x'] * 200))
    assert own.metainfo['classes'] == ['x'] * 200


MISSING = [
    (
        'CUB',
        'image_class_labels.txt',
        'images.txt image_class_labels.txt train_test_split.txt images',
    ),
    ('NABirds', 'images.txt', 'images.txt image_class_labels.txt train_test_split.txt images'),
    ('Flowers102', 'setid.mat', 'imagelabels.mat setid.mat jpg'),
    ('StanfordDogs', 'test_list.mat', 'train_list.mat test_list.mat Images'),
    ('StanfordCars', 'cars_annos.mat', 'cars_annos.mat, or devkit/cars_train_annos.mat'),
]


@pytest.mark.parametrize(('name', 'file', 'layout'), MISSING)
def test_missing_files_are_named(name, file, layout, tmp_path):
    LAYOUTS[name](tmp_path)
    (tmp_path / file).unlink()
    with pytest.raises(FileNotFoundError) as info:
        make(name, tmp_path, 'trainval')
    message = str(info.value)
    assert message.startswith(f'{name}: {tmp_path}/{file} does not exist.')
    assert f'the original files ({layout}' in message
    assert 'the split file trainval.json or train.json and val.json' in message


def test_no_such_split(tmp_path):
    with pytest.raises(ValueError, match="split='training' must be one of"):
        make('NABirds', tmp_path, 'training')


@pytest.mark.parametrize(
    'text',
    [
        *('[1, 2]', '{"a": "x"}', 'nothing', '{"a": -1}', '{"a": 1.5}', '{"a": true}', '{"a": ""}'),
        '{"a": 1, "a": 2}',  # the second entry would replace the first
    ],
)
def test_no_split_file(tmp_path, text):
    (tmp_path / 'test.json').write_text(text)
    with pytest.raises(ValueError, match=rf'{tmp_path}/test\.json is not a split file'):
        make('NABirds', tmp_path, 'test')


def test_a_split_file_with_a_byte_order_mark(tmp_path):
    write_splits(tmp_path, test={'a.jpg': 1, 'b.jpg': '7'})
    path = tmp_path / 'test.json'
    path.write_bytes(b'\xef\xbb\xbf' + path.read_bytes())
    assert [label for _, label in content(make('CUB', tmp_path, 'test'), tmp_path)] == [0, 1]
