"""Bad files of every kind, and what is said about each."""

import json
from collections import Counter

import numpy as np
import pytest
from matplotlib.figure import Figure
from mmengine.config import Config
from painted import draw
from PIL import Image

from toast_mm.inspection import draw_sheet, inspect, sheet
from toast_mm.inspection.text import as_data, as_text

RNG = np.random.default_rng(0)
LOAD = dict(type='toast_mm.LoadImageFromFile')
LOADERS = ['toast_mm.LoadAnnotations', 'LoadAnnotations']  # of masks; mmseg's own says less


def loader(**dataset):
    if 'datasets' not in dataset:
        dataset.setdefault('pipeline', [LOAD])
    sampler = dict(type='DefaultSampler', shuffle=True)
    return dict(batch_size=2, num_workers=0, sampler=sampler, dataset=dataset)


def classes_in(folder, **settings):
    return loader(type='CustomDataset', data_root=str(folder), **settings)


def look(jobs=0, default_scope='mmpretrain', **loaders):
    loaders = {f'{split}_dataloader': value for split, value in loaders.items()}
    return inspect(Config(dict(default_scope=default_scope, **loaders)), jobs)


def said(report):
    """Kind, split, name of the file and sentence of every finding."""
    return [
        (one.kind, one.split, (one.file or '').rsplit('/', 1)[-1], one.text)
        for one in report.findings
    ]


@pytest.fixture
def photos(tmp_path):
    """Two classes of three images each."""
    for number in range(6):
        name = f'{"cat" if number < 3 else "dog"}/{number}.jpg'
        draw(tmp_path / 'train' / name, (40, 30 + number), number)
    return tmp_path / 'train'


def noise(*shape, dtype=np.uint8, high=256):
    return RNG.integers(0, high, shape).astype(dtype)


def truncated(path):
    draw(path, (64, 64), seed=9)
    path.write_bytes(path.read_bytes()[:-300])


def missing_end(path):
    """So little is missing that some decoders only fill the rest."""
    draw(path, (64, 64), seed=9)
    path.write_bytes(path.read_bytes()[:-20])


def turned(path):
    draw(path, orientation=6)


def animated(path):
    frames = [Image.fromarray(noise(20, 20)) for _ in range(3)]
    frames[0].save(path, 'PNG', save_all=True, append_images=frames[1:])


def transparent_palette(path):
    Image.fromarray(noise(20, 20)).convert('P').save(path, transparency=3)


def jpeg(path):
    draw(path, seed=9, format='JPEG')


def gigantic(path, size=(10_000, 9_000)):
    Image.new('1', size).save(path)  # a few kilobytes, 90 million pixels


def saved(pixels, mode=None, kept=None):
    """Write pixels, converted from or into a mode of Pillow."""

    def write(path):
        image = Image.fromarray(pixels, mode) if mode else Image.fromarray(pixels)
        image.convert(kept or image.mode).save(path)

    return write


DEEP = noise(9, 9, dtype=np.uint16, high=60000)
BAD = [
    ('x.jpg', truncated, 'truncated', 'its pixels are cut off or damaged: '),
    ('x.jpg', missing_end, 'truncated', 'its pixels are cut off or damaged: '),
    ('x.png', truncated, 'truncated', 'its pixels are cut off or damaged: '),
    ('x.jpg', lambda path: path.write_bytes(b''), 'empty file', 'it has no content'),
    ('x.jpg', lambda path: path.write_text('hello'), 'unreadable', 'cannot be decoded as an im'),
    ('x.jpg', saved(noise(9, 9, 4), 'CMYK'), 'CMYK', 'colours for print'),
    ('x.png', saved(noise(9, 9, 4)), 'alpha', 'transparency is dropped'),
    ('x.png', transparent_palette, 'alpha', 'transparency is dropped'),
    ('x.png', saved(noise(9, 9), kept='P'), 'palette', 'a palette of at most 256 colours'),
    ('x.png', saved(noise(9, 9) > 99), '1 bit', 'black and white'),
    ('x.png', saved(DEEP), '16 bits', 'more than 8 bits per channel'),
    ('x.jpg', turned, 'EXIF orientation', 'orientation 6: mmcv turns it when it reads it'),
    ('x.png', animated, 'animation', '3 pictures, of which the first is read'),
    ('x.png', jpeg, 'suffix', 'it is a JPEG file'),
    ('x.png', lambda path: draw(path, (40, 7)), 'tiny', '40 x 7 pixels'),
]


@pytest.mark.parametrize('name, write, kind, text', BAD)
def test_one_bad_file(photos, name, write, kind, text):
    write(photos / 'cat' / name)
    report = look(train=classes_in(photos))
    found = [(k, split, file) for k, split, file, _ in said(report)]
    assert found == [(kind, 'train', name)]
    assert report.findings[0].text.startswith(text)


@pytest.mark.parametrize(
    ('size', 'kinds'),
    [((10_000, 9_000), {'gigantic': 1, '1 bit': 1}), ((20_000, 9_000), {'gigantic': 1})],
)
def test_gigantic(photos, monkeypatch, size, kinds):
    """Only its header is read. Pillow refuses the second."""
    gigantic(photos / 'cat' / 'x.png', size)
    monkeypatch.setattr('toast_mm.inspection.sample.load', load_small(photos))
    found = Counter(kind for kind, *_ in said(look(train=classes_in(photos))))
    assert found == kinds


def load_small(photos):
    from toast_mm.inspection.sample import load

    def guarded(dataset, index):
        assert not dataset.get_data_info(index)['img_path'].endswith('x.png')
        return load(dataset, index)

    return guarded


def test_darkened_by_mmcv(photos):
    Image.fromarray(noise(9, 9, dtype=np.uint16, high=4096)).save(photos / 'cat' / 'x.png')
    plain = look(train=classes_in(photos, pipeline=[dict(type='LoadImageFromFile')]))
    ours = look(train=classes_in(photos))
    assert [kind for kind, *_ in said(plain)] == ['16 bits', 'darkened']
    assert [kind for kind, *_ in said(ours)] == ['16 bits']


def test_links_and_other_files(photos):
    (photos / 'cat' / 'dead.jpg').symlink_to('nowhere')
    draw(photos / 'dog' / 'x.webp')
    (photos / 'list.txt').write_text('cat/0.jpg 0\ncat/dead.jpg 0\ncat/gone.jpg 0\ndog/3.jpg 7\n')
    found = look(train=classes_in(photos), **dict.fromkeys(('val', 'test'), classes_in(photos)))
    passed = [one for one in said(found) if one[0] in ('passed over', 'missing')]
    assert [one[:3] for one in passed] == [
        (kind, split, file)
        for split in ('train', 'val')
        for kind, file in [('missing', 'dead.jpg'), ('passed over', '')]
    ]
    assert passed[0][3] == 'it is a link without a target'
    assert f'1 .webp, 1 dead links such as {photos}/cat/dead.jpg (' in passed[1][3]
    (photos / 'dog' / 'x.webp').unlink()
    parts = [classes_in(photos)['dataset']] * 2
    wrapped = loader(type='ConcatDataset', datasets=parts)
    assert [one[:3] for one in said(look(train=wrapped))] == [('missing', 'train', 'dead.jpg')]
    listed = loader(
        type='CustomDataset',
        data_prefix=str(photos),
        ann_file=str(photos / 'list.txt'),
        classes=['cat', 'dog'],
    )
    assert said(look(train=listed))[:3] == [
        ('missing', 'train', 'dead.jpg', 'it is a link without a target'),
        ('missing', 'train', 'gone.jpg', 'No such file or directory'),
        ('labels', 'train', '3.jpg', 'its class is 7, but there are 2'),
    ]


def test_doubles(photos, tmp_path):
    for source, target in (
        ('train/cat/0.jpg', 'train/cat/copy.jpg'),
        ('train/cat/1.jpg', 'train/dog/other.jpg'),
        ('train/dog/3.jpg', 'val/dog/3.jpg'),
    ):
        (tmp_path / target).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / target).write_bytes((tmp_path / source).read_bytes())
    Image.open(tmp_path / 'train/dog/4.jpg').save(tmp_path / 'val/dog/4.png')  # the same pixels
    draw(tmp_path / 'val' / 'cat' / 'new.jpg', seed=77)
    report = look(train=classes_in(photos), val=classes_in(tmp_path / 'val'))
    two, of = 'same in two splits', f'its pixels are those of {photos}'
    assert sorted(said(report)) == [
        ('same in a split', 'train', 'copy.jpg', f'{of}/cat/0.jpg in train'),
        (two, 'train, val', '3.jpg', f'{of}/dog/3.jpg in train'),
        (two, 'train, val', '4.png', f'{of}/dog/4.jpg in train'),
        ('two classes', 'train', 'other.jpg', f'{of}/cat/1.jpg in train, but its class is another'),
    ]
    report = look(train=classes_in(photos), val=classes_in(photos))
    same = [one for one in said(report) if one[0] == 'same in two splits']
    assert len(same) == 8 and {text for *_, text in same} == {'it is in train as well'}


def test_other_sizes_are_no_doubles(photos):
    """Though their bytes are the same."""
    for number, size in enumerate([(40, 20), (20, 40)]):
        Image.new('RGB', size, (7, 7, 7)).save(photos / 'cat' / f'x{number}.png')
    assert said(look(train=classes_in(photos))) == []


def test_one_split_as_another(photos, tmp_path):
    """Test data are often the validation data."""
    truncated(tmp_path / 'val' / 'cat' / 'x.jpg')
    draw(tmp_path / 'val' / 'dog' / 'y.jpg', seed=8)
    report = look(**dict.fromkeys(('val', 'test'), classes_in(tmp_path / 'val')))
    assert [kind for kind, *_ in said(report)] == ['truncated']
    assert report.splits['test'].same_as == 'val'
    assert 'test: the samples of val' in as_text(report)


def test_classes(photos, tmp_path):
    draw(tmp_path / 'val' / 'cat' / 'x.jpg', seed=50)
    draw(tmp_path / 'val' / 'eel' / 'x.jpg', seed=51)
    (tmp_path / 'test' / 'dog').mkdir(parents=True)
    draw(tmp_path / 'test' / 'cat' / 'x.jpg', seed=52)
    report = look(
        train=classes_in(photos),
        val=classes_in(tmp_path / 'val'),
        test=classes_in(tmp_path / 'test'),
    )
    names, empty = sorted(said(report))
    assert names[:2] == ('class names', 'val')
    assert names[3].startswith("class 1 is 'eel' in the val data set, but 'dog' in the train data")
    assert empty[:2] == ('class without samples', 'test') and "'dog' never occurs" in empty[3]
    assert report.splits['train'].counts == [3, 3]


def test_a_split_that_cannot_be_built(photos, tmp_path):
    report = look(train=classes_in(tmp_path / 'nowhere'), val=classes_in(photos))
    assert [one[:2] for one in said(report)] == [('data set', 'train')]
    assert [*report.splits] == ['val']
    with pytest.raises(ValueError, match='the config has no train_dataloader, val_dataloader'):
        look()


def test_wrappers(photos, tmp_path):
    """Every file once."""
    truncated(photos / 'cat' / 'x.jpg')
    draw(tmp_path / 'more' / 'cat' / 'y.jpg', seed=60)
    draw(tmp_path / 'more' / 'dog' / 'y.jpg', seed=61)
    part = classes_in(photos)['dataset']
    other = classes_in(tmp_path / 'more')['dataset']
    report = look(
        train=loader(
            type='ConcatDataset',
            datasets=[dict(type='RepeatDataset', times=3, dataset=part), other, part],
        )
    )
    assert [one[:3] for one in said(report)] == [('truncated', 'train', 'x.jpg')]
    assert len(report.splits['train'].samples) == 9
    assert report.splits['train'].counts == [5, 4]


def test_skipping_loader(photos):
    (photos / 'cat' / 'x.jpg').write_text('hello')
    report = look(train=classes_in(photos, pipeline=[{**LOAD, 'ignore_empty': True}]))
    (one,) = said(report)
    assert one == ('unreadable', 'train', 'x.jpg', 'the pipeline skips it (ignore_empty)')


def test_bands(tmp_path):
    for number in range(4):
        path = tmp_path / 'ab'[number % 2] / f'{number}.npy'
        path.parent.mkdir(exist_ok=True)
        np.save(path, noise(9, 9, 5 if number else 4, dtype=np.float32))
    pipeline = [dict(type='toast_mm.LoadBandsFromFile', num_bands=5)]
    report = look(train=classes_in(tmp_path, extensions=['.npy'], pipeline=pipeline))
    (one,) = said(report)
    assert one[:3] == ('unreadable', 'train', '0.npy') and 'no image of 5 bands' in one[3]
    draw_sheet(report, str(tmp_path / 'sheet.png'))
    with Image.open(tmp_path / 'sheet.png') as sheet:
        colours = np.unique(np.asarray(sheet.convert('RGB')).reshape(-1, 3), axis=0)
    assert sheet.width == 1280 and len(colours) > 100


# Segmentation


@pytest.fixture
def scenes(tmp_path):
    """Three images with masks of 0, 1 and 255."""
    for number in range(3):
        draw(tmp_path / 'images' / f'{number}.jpg', seed=number)
        mask = np.arange(1200).reshape(30, 40) // 500 % 2
        mask[:2] = 255
        save_mask(tmp_path, number, mask)
    return tmp_path


def save_mask(root, name, mask, suffix='png', **options):
    path = root / 'masks' / f'{name}.{suffix}'
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(np.asarray(mask, np.uint8)).save(path, **options)
    return path


def segments(root, suffix='.png', load='toast_mm.LoadAnnotations', classes=('sky', 'road'), **more):
    return loader(
        type='BaseSegDataset',
        data_root=str(root),
        data_prefix=dict(img_path='images', seg_map_path='masks'),
        img_suffix='.jpg',
        seg_map_suffix=suffix,
        metainfo=dict(classes=classes),
        pipeline=[LOAD, dict(type=load)],
        **more,
    )


def see(root, **settings):
    return look(default_scope='mmseg', train=segments(root, **settings))


def test_masks(scenes):
    report = see(scenes)
    assert said(report) == []
    zeros, ones = 3 * (420 + 200), 3 * 500
    assert report.splits['train'].counts == [zeros, ones]
    share = f'sky {zeros / (zeros + ones):.1%}, road {ones / (zeros + ones):.1%}'
    assert share in as_text(report)


@pytest.mark.parametrize('load', LOADERS)
@pytest.mark.parametrize(
    'mask, kind, text',
    [
        (np.zeros((20, 40)), 'mask size', '40 x 20 pixels, but its image'),
        (np.zeros((30, 40, 3)), 'mask channels', '3 channels'),
        (np.full((30, 40), 255), 'ignored mask', 'all pixels are 255, which is ignored'),
        (np.eye(30, 40) * 7, 'foreign labels', 'labels 7, which are not 0..1 or 255 (ignored); the '
         'first is at x=0 y=0'),
    ],
)  # fmt: skip
def test_bad_masks(scenes, load, mask, kind, text):
    save_mask(scenes, 1, mask)
    (one,) = said(see(scenes, load=load))
    assert one[:3] == (kind, 'train', '1.png') and text in one[3]


@pytest.mark.parametrize('load', LOADERS)
def test_files_of_masks(scenes, load):
    (scenes / 'masks' / '0.png').write_bytes((scenes / 'masks' / '0.png').read_bytes()[:-40])
    (scenes / 'masks' / '1.png').write_bytes(b'')
    (scenes / 'masks' / '2.png').unlink()
    (scenes / 'masks' / '2.png').symlink_to('nowhere')
    found = [one[:3] for one in said(see(scenes, load=load)) if one[0] != 'passed over']
    assert found == [
        ('truncated', 'train', '0.png'),
        ('empty file', 'train', '1.png'),
        ('missing', 'train', '2.png'),
    ]


@pytest.mark.parametrize('load', LOADERS)
def test_the_bad_file_of_two_is_blamed(scenes, load):
    (scenes / 'masks' / '0.png').write_text('hello')
    (scenes / 'images' / '1.jpg').write_text('hello')
    found = said(see(scenes, load=load))
    assert [one[:3] for one in found] == [
        ('unreadable', 'train', '0.png'),
        ('unreadable', 'train', '1.jpg'),
    ]
    assert not any('object at' in one[3] for one in found)


@pytest.mark.parametrize('load', LOADERS)
@pytest.mark.parametrize(
    ('pixels', 'suffix', 'label'),
    [
        (np.uint16(300) * np.eye(30, 40, dtype=np.uint16), 'png', '300'),  # 44 in 8 bits
        (np.uint16(256) * np.eye(30, 40, dtype=np.uint16), 'png', '256'),  # 0 in 8 bits
        (-np.eye(30, 40, dtype=np.int32), 'tif', '-1'),  # 255, which is ignored
        (np.float32(0.5) * np.eye(30, 40, dtype=np.float32), 'tif', '0.5'),
    ],
)
def test_labels_beyond_8_bits(scenes, load, pixels, suffix, label):
    for number in range(3):
        save_mask(scenes, number, np.arange(1200).reshape(30, 40) % 2, suffix)
    Image.fromarray(pixels).save(scenes / 'masks' / f'1.{suffix}')
    report = see(scenes, load=load, suffix=f'.{suffix}')
    (one,) = said(report)
    assert one[:3] == ('foreign labels', 'train', f'1.{suffix}')
    named = f'has the label {label};' if load.startswith('toast') else f'labels {label}, which are'
    assert named in one[3]
    ones = [1200 + 1200 - 30, 1200] if not load.startswith('toast') else [1200, 1200]
    assert report.splits['train'].counts == ones


def test_deep_masks_of_classes(scenes):
    """16 bits are no mistake."""
    mask = np.arange(1200, dtype=np.uint16).reshape(30, 40) % 2
    Image.fromarray(mask).save(scenes / 'masks' / '1.png')
    for load in LOADERS:
        assert said(see(scenes, load=load)) == []


def test_palettes_and_lossy_masks(scenes):
    mask = Image.fromarray(np.eye(30, 40, dtype=np.uint8))
    mask.putpalette([0, 0, 0, 255, 0, 0])
    mask.save(scenes / 'masks' / '0.png')
    assert said(see(scenes)) == []  # usual for masks
    for number in range(3):
        save_mask(scenes, number, np.zeros((30, 40)), 'jpg')
    found = {one[0] for one in said(see(scenes, suffix='.jpg'))}
    assert found == {'lossy mask', 'class without samples'}


def test_masks_of_0_and_255(scenes):
    for number in range(3):
        save_mask(scenes, number, 255 * np.eye(30, 40))
    (one,) = said(see(scenes))
    assert one[:2] == ('labels', 'train') and 'masks of 0 and 255 must be converted' in one[3]


def test_images_without_masks(scenes):
    (scenes / 'masks' / '2.png').unlink()
    found = said(see(scenes))
    assert ('missing', 'train', '2.png', 'No such file or directory') in found
    assert any(one[0] == 'passed over' and '1 images without a mask' in one[3] for one in found)


def test_reports(scenes):
    save_mask(scenes, 1, np.full((30, 40), 7))
    report = see(scenes)
    data = json.loads(json.dumps(as_data(report)))
    assert (data['broken'], data['doubtful']) == (1, 0)
    assert data['findings'][0]['file'] == str(scenes / 'masks' / '1.png')
    assert data['splits']['train']['samples'] == 3
    assert data['splits']['train']['largest'] == [40, 30]
    text = as_text(report)
    assert 'broken: foreign labels (1)' in text and text.endswith('1 broken, 0 doubtful')


def test_counts_in_a_sheet_are_whole_numbers(photos, tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(
        sheet, 'Figure', lambda *a, **k: figures.append(Figure(*a, **k)) or figures[0]
    )
    draw_sheet(look(train=classes_in(photos)), str(tmp_path / 'sheet.png'))
    titles = {axes.get_title(): axes for axes in figures[0].get_axes()}
    ticks = titles['images of every class'].get_xticks()
    assert len(ticks) > 1 and all(tick == round(tick) for tick in ticks)


def test_a_sheet_of_nothing(photos, tmp_path):
    for path in photos.rglob('*.jpg'):
        path.write_bytes(b'')
    with pytest.raises(ValueError, match='no sample to show'):
        draw_sheet(look(train=classes_in(photos)), str(tmp_path / 'sheet.png'))


def test_processes(photos):
    """Also with libjpeg's own messages, which name no file."""
    truncated(photos / 'cat' / 'x.jpg')
    serial, parallel = (look(jobs, train=classes_in(photos)) for jobs in (0, 2))
    assert said(serial) == said(parallel) != []
    digests = [[s.digest for s in report.splits['train'].samples] for report in (serial, parallel)]
    assert digests[0] == digests[1] and len({*digests[0]}) == 7
