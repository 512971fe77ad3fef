"""Lists of files, and what is said of those that do not fit."""

import pytest
from mmengine.registry import DATASETS
from PIL import Image

from toast_mm.datasets.vtab import VTAB_TASKS, number_of_classes


def write(root, task, **lists):
    (root / task / 'images').mkdir(parents=True, exist_ok=True)
    for name, lines in lists.items():
        (root / task / f'{name}.txt').write_text('\n'.join(lines) + '\n')


def image(root, task, name):
    Image.new('RGB', (8, 8)).save(root / task / 'images' / name)


def make(root, task, split, **kwargs):
    return DATASETS.build(
        dict(
            type='toast_mm.VTAB',
            data_root=str(root),
            task=task,
            split=split,
            pipeline=[],
            **kwargs,
        )
    )


@pytest.fixture
def kitti(tmp_path):
    write(
        tmp_path,
        'kitti',
        train800=['images/one two.png 3', '', 'images/3.png 0'],
        val200=['images/4.png 2'],
        train800val200=['images/4.png 2'],
        test=['images/3.png 1'],
    )
    for name in ('one two.png', '3.png', '4.png'):
        image(tmp_path, 'kitti', name)
    return tmp_path


def test_splits(kitti):
    folder = f'{kitti}/kitti/images'
    expected = {
        'train': [(f'{folder}/one two.png', 3), (f'{folder}/3.png', 0)],
        'val': [(f'{folder}/4.png', 2)],
        'trainval': [(f'{folder}/4.png', 2)],
        'test': [(f'{folder}/3.png', 1)],
    }
    for split, samples in expected.items():
        dataset = make(kitti, 'kitti', split)
        infos = [dataset.get_data_info(index) for index in range(len(dataset))]
        assert [(info['img_path'], info['gt_label']) for info in infos] == samples
        assert dataset.metainfo['classes'] == ['0', '1', '2', '3']


def test_tasks_of_the_paper():
    counts = [100, 102, 47, 102, 37, 10, 397, 2, 10, 45, 5, 8, 6, 6, 4, 16, 16, 18, 9]
    assert [task.num_classes for task in VTAB_TASKS.values()] == counts
    groups = [task.group for task in VTAB_TASKS.values()]
    assert groups == ['Natural'] * 7 + ['Specialized'] * 4 + ['Structured'] * 8


def test_data_of_ones_own(tmp_path):
    for name in ('train', 'val', 'trainval', 'test'):
        write(tmp_path, 'mine', **{name: ['images/1.png 0', 'images/1.png 4']})
    image(tmp_path, 'mine', '1.png')
    assert number_of_classes(tmp_path, 'mine') == 5
    assert len(make(tmp_path, 'mine', 'test').metainfo['classes']) == 5
    assert len(make(tmp_path, 'mine', 'test', num_classes=7).metainfo['classes']) == 7


def test_unknown_task(tmp_path):
    with pytest.raises(FileNotFoundError) as info:
        make(tmp_path, 'clevr_counts', 'test')
    assert str(info.value).startswith(f'{tmp_path}/clevr_counts does not exist; tasks of similar')
    assert 'clevr_count' in str(info.value).split('names: ')[1]
    with pytest.raises(FileNotFoundError, match=r'/kitti does not exist$'):
        make(tmp_path, 'kitti', 'test')


BROKEN = [
    ('images/3.png 4', ValueError, r'test\.txt, line 2: label 4 is outside the 4 classes, 0\.\.3'),
    ('images/3.png -1', ValueError, r'label -1 is outside'),
    ('images/9.png 1', FileNotFoundError, r'test\.txt, line 2: .*/kitti/images/9\.png does not'),
    ('images/3.png', ValueError, r'line 2: \'images/3\.png\' is not "path label"'),
    ('images/3.png one', ValueError, r'is not "path label"'),
    ('images/3.png \u00b2', ValueError, r'line 2: .* is not "path label"'),  # digit, but no number
]


@pytest.mark.parametrize(('line', 'error', 'message'), BROKEN)
def test_broken_lists(kitti, line, error, message):
    write(kitti, 'kitti', test=['images/3.png 1', line])
    with pytest.raises(error, match=message):
        make(kitti, 'kitti', 'test')


def test_missing_and_empty_lists(kitti):
    with pytest.raises(ValueError, match=r'test\.txt is empty'):
        write(kitti, 'kitti', test=[''])
        make(kitti, 'kitti', 'test')
    (kitti / 'kitti' / 'val200.txt').unlink()
    with pytest.raises(FileNotFoundError, match=r'the val list of kitti .*/val200\.txt or '):
        make(kitti, 'kitti', 'val')
    with pytest.raises(ValueError, match="split='train800' must be one of"):
        make(kitti, 'kitti', 'train800')


def test_lists_of_other_systems(kitti):
    path = kitti / 'kitti' / 'train800.txt'
    content = path.read_bytes().replace(b'\n', b'\r\n')
    path.write_bytes(b'\xef\xbb\xbf' + content)
    dataset = make(kitti, 'kitti', 'train')
    assert [dataset.get_data_info(index)['gt_label'] for index in range(len(dataset))] == [3, 0]
    path.write_bytes(content.decode().encode('utf-16'))
    with pytest.raises(ValueError, match=r'train800\.txt is not text in UTF-8'):
        make(kitti, 'kitti', 'train')
