"""Every converter on one image per split; the package's tests have the formats in detail."""

import json

import numpy as np
import pytest
from painted import draw
from PIL import Image

SQUARE = [[2, 2], [12, 2], [12, 12], [2, 12]]
EXPECTED = np.zeros((30, 40), np.uint8)
EXPECTED[2:12, 2:12] = 1
NAMES = ['a', 'b', 'c']


@pytest.fixture
def photos(tmp_path):
    for number, name in enumerate(NAMES):
        draw(tmp_path / 'photos' / f'{name}.jpg', seed=number)
    return tmp_path / 'photos'


def coco(root, photos):
    points = [value for point in SQUARE for value in point]
    images = [dict(id=n, file_name=f'{v}.jpg', width=40, height=30) for n, v in enumerate(NAMES)]
    shapes = [
        dict(id=n, image_id=n, category_id=1, segmentation=[points]) for n in range(len(NAMES))
    ]
    data = dict(images=images, annotations=shapes, categories=[dict(id=1, name='card')])
    (root / 'coco.json').write_text(json.dumps(data))
    return [root / 'coco.json', photos]


def cvat(root, photos):
    points = ';'.join(f'{x},{y}' for x, y in SQUARE)
    images = ''.join(
        f'<image id="{number}" name="{name}.jpg" width="40" height="30">'
        f'<polygon label="card" points="{points}"/></image>'
        for number, name in enumerate(NAMES)
    )
    (root / 'cvat.xml').write_text(f'<annotations>{images}</annotations>')
    return [root / 'cvat.xml', photos]


def label_studio(root, photos):
    value = dict(points=[[x / 0.4, y / 0.3] for x, y in SQUARE], polygonlabels=['card'])
    shape = dict(type='polygonlabels', value=value, original_width=40, original_height=30)
    tasks = [
        dict(id=n, data=dict(image=f'/data/{v}.jpg'), annotations=[dict(result=[shape])])
        for n, v in enumerate(NAMES)
    ]
    (root / 'export.json').write_text(json.dumps(tasks))
    return [root / 'export.json', photos]


def labelme(root, photos):
    for name in NAMES:
        shape = dict(label='card', points=SQUARE, shape_type='polygon')
        data = dict(shapes=[shape], imagePath=f'{name}.jpg', imageHeight=30, imageWidth=40)
        (photos / f'{name}.json').write_text(json.dumps(data))
    return [photos]


def rgb_masks(root, photos):
    colours = np.array([(9, 9, 9), (1, 2, 3)], np.uint8)[EXPECTED]
    (root / 'masks').mkdir()
    for name in NAMES:
        Image.fromarray(colours).save(root / 'masks' / f'{name}.png')
    (root / 'palette.txt').write_text('ground 9 9 9\ncard 1 2 3\n')
    return [photos, root / 'masks', root / 'palette.txt']


THIRDS = ('--val', 0.33, '--test', 0.33)


@pytest.mark.parametrize('source', [coco, cvat, label_studio, labelme, rgb_masks])
def test_segmentation(tool, tmp_path, photos, capsys, source):
    arguments = [*source(tmp_path, photos), tmp_path / 'out', *THIRDS]
    tool(f'dataset_converters/{source.__name__}', *arguments)
    printed = capsys.readouterr().out
    assert f'{tmp_path / "out"}: segmentation, 2 classes' in printed and 'left out' not in printed
    masks = sorted((tmp_path / 'out' / 'annotations').rglob('*.png'))
    assert sorted(mask.parent.name for mask in masks) == ['test', 'train', 'val']
    for path in masks:
        with Image.open(path) as mask:
            np.testing.assert_array_equal(mask, EXPECTED)
    names = [line.split()[0] for line in open_lines(tmp_path / 'out' / 'classes.txt')]
    first = dict(labelme='_background_', rgb_masks='ground').get(source.__name__, 'background')
    assert names == [first, 'card']
    with pytest.raises(SystemExit, match='add --overwrite to replace an earlier conversion'):
        tool(f'dataset_converters/{source.__name__}', *arguments)
    tool(f'dataset_converters/{source.__name__}', *arguments, '--overwrite', '--link')
    assert all(path.is_symlink() for path in (tmp_path / 'out' / 'images').rglob('*.jpg'))


def open_lines(path):
    return path.read_text().splitlines()


def test_crowds_are_ignored(tool, tmp_path, photos):
    path, _ = coco(tmp_path, photos)
    data = json.loads(path.read_text())
    for annotation in data['annotations']:
        annotation['iscrowd'] = 1
    path.write_text(json.dumps(data))
    tool('dataset_converters/coco', path, photos, tmp_path / 'out', *THIRDS, '--crowds', 'ignore')
    for mask in (tmp_path / 'out' / 'annotations').rglob('*.png'):
        with Image.open(mask) as pixels:
            np.testing.assert_array_equal(pixels, 255 * EXPECTED)


def test_folders(tool, tmp_path, capsys):
    for number in range(8):
        draw(tmp_path / 'photos' / 'ab'[number % 2] / f'video{number // 4}_{number}.jpg')
    shares = ('--val', 0.5, '--test', 0)
    tool('dataset_converters/folders', tmp_path / 'photos', tmp_path / 'out', *shares)
    assert 'classification, 2 classes' in capsys.readouterr().out
    assert len([*(tmp_path / 'out' / 'val' / 'a').iterdir()]) == 2
    arguments = [tmp_path / 'photos', tmp_path / 'grouped', *shares, '--group', r'(video\d)_']
    tool('dataset_converters/folders', *arguments)
    for split in ('train', 'val'):
        names = {path.name[:6] for path in (tmp_path / 'grouped' / split).rglob('*.jpg')}
        assert len(names) == 1


def test_csv_table(tool, tmp_path, photos):
    rows = 'a.jpg;x;train\nb.jpg;y;val\nc.jpg;x;test\n'
    (tmp_path / 'table.csv').write_text(f'file;species;set\n{rows}')
    columns = ('--path-column', 'file', '--label-column', 'species', '--split-column', 'set')
    arguments = [tmp_path / 'table.csv', tmp_path / 'out', '--images', photos, *columns]
    tool('dataset_converters/csv_table', *arguments, '--delimiter', ';')
    found = sorted(p.relative_to(tmp_path / 'out') for p in (tmp_path / 'out').rglob('*.jpg'))
    assert [*map(str, found)] == ['test/x/c.jpg', 'train/x/a.jpg', 'val/y/b.jpg']
    with pytest.raises(SystemExit, match='has no column'):
        tool('dataset_converters/csv_table', *arguments)


def test_mistakes(tool, tmp_path, photos, capsys):
    path, _ = coco(tmp_path, photos)
    with pytest.raises(SystemExit, match=r'No such file.*nowhere\.json'):
        tool('dataset_converters/coco', tmp_path / 'nowhere.json', photos, tmp_path / 'out')
    with pytest.raises(SystemExit, match='leave -1 for training'):
        tool('dataset_converters/coco', path, photos, tmp_path / 'out', '--val', 1, '--test', 1)
    with pytest.raises(SystemExit, match=r'no image is left\n.*there is no such image'):
        tool('dataset_converters/coco', path, tmp_path / 'elsewhere', tmp_path / 'out')
    with pytest.raises(SystemExit) as exit_:
        arguments = (path, tmp_path / 'out', '--delimiter', 'ab')
        tool('dataset_converters/csv_table', *arguments)
    (tmp_path / 'table.csv').write_text('path,label\n')
    with pytest.raises(SystemExit, match=r'table\.csv holds no annotation$'):
        tool('dataset_converters/csv_table', tmp_path / 'table.csv', tmp_path / 'out')
    assert exit_.value.code == 2 and 'must be one character' in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()
