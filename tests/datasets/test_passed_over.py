"""Files that data sets skip: by suffix, as dead links, or without a mask."""

from types import SimpleNamespace

import pytest
from mmpretrain.datasets import CustomDataset
from mmseg.datasets import BaseSegDataset

from toast_mm.datasets.passed_over import passed_over
from toast_mm.engine import DataCheckHook, Runner

NAMES = ('a.jpg', 'b.JPG', 'c.webp', 'd.gif', 'sub/e.jpg', 'sub/f.tiff', 'notes.txt', '.h.webp')


@pytest.fixture
def folder(tmp_path):
    for name in NAMES:
        for part in ('img', 'img/class'):
            path = tmp_path / part / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    (tmp_path / 'img' / 'gone.jpg').symlink_to(tmp_path / 'nowhere.jpg')
    (tmp_path / 'img' / 'class' / 'here.jpg').symlink_to(tmp_path / 'img' / 'a.jpg')
    return tmp_path


def segmentation(folder, **settings) -> BaseSegDataset:
    prefix = dict(img_path='img', seg_map_path='mask')
    return BaseSegDataset(data_root=str(folder), data_prefix=prefix, **settings)


def test_segmentation(folder):
    dataset = segmentation(folder)
    assert len(dataset) == 5
    assert str(passed_over(dataset)) == (
        f'2 .JPG, 2 .gif, 2 .tiff, 2 .webp, 1 dead links such as {folder}/img/gone.jpg (asked '
        f'for: .jpg; first: {folder}/img/b.JPG)'
    )


def test_images_without_a_mask(folder):
    masks = folder / 'mask'
    (masks / 'class' / 'sub').mkdir(parents=True)
    for name in ('a.png', 'class/a.png', 'class/sub/e.png'):
        (masks / name).touch()
    found = passed_over(segmentation(folder))
    assert found.without_mask == 2  # sub/e.jpg, and class/here.jpg
    assert ', 2 images without a mask (asked' in str(found)


def test_classification(folder):
    """Suffixes in any case, and other formats."""
    dataset = CustomDataset(str(folder / 'img'), extensions=('.jpg', '.gif'))
    assert len(dataset) == 6  # of the folders class and sub
    found = passed_over(dataset)
    assert found.suffixes == {'.webp': 2, '.tiff': 2}
    assert found.dead_links == [f'{folder}/img/gone.jpg']
    assert found.wanted == ('.gif', '.jpg')


def test_dead_links(folder):
    """Of images of any format and of folders, but not of other files."""
    for name in ('class/other.WEBP', 'class_b', 'class/notes.md'):
        (folder / 'img' / name).symlink_to('nowhere')
    links = [f'{folder}/img/{name}' for name in ('class/other.WEBP', 'class_b', 'gone.jpg')]
    for dataset in (CustomDataset(str(folder / 'img')), segmentation(folder)):
        found = passed_over(dataset)
        assert found.dead_links == links
        assert f'3 dead links such as {links[0]} (asked' in str(found)


def test_nothing_is_passed_over(folder, tmp_path):
    (tmp_path / 'list.txt').write_text('a')
    assert passed_over(segmentation(folder, ann_file='list.txt')) is None  # these are meant
    assert passed_over(object()) is None
    for path in [*folder.rglob('*')]:
        if path.suffix not in ('.jpg', '.txt', '') or path.name == 'gone.jpg':
            path.unlink()
    assert not passed_over(segmentation(folder))


def test_the_hook_warns_once(folder, monkeypatch):
    lines = []
    runner = SimpleNamespace(
        model=SimpleNamespace(),
        logger=SimpleNamespace(warning=lines.append),
        val_dataloader=SimpleNamespace(dataset=segmentation(folder)),
    )
    hook = DataCheckHook()
    hook.before_val(runner)
    hook.before_val(runner)
    (line,) = lines
    assert line.startswith(f'The val data set skips files in {folder}/img: 2 .JPG, 2 .gif')


@pytest.mark.parametrize(
    'dataset, asked',
    [
        (
            dict(type='mmseg.BaseSegDataset', img_suffix='.png', data_prefix=dict(img_path='img')),
            '.png',
        ),
        (dict(type='mmpretrain.CustomDataset', data_prefix='img', extensions=['.png']), '.png'),
    ],
)
def test_the_error_of_an_empty_data_set(folder, dataset, asked):
    loader = dict(
        dataset=dict(dataset, data_root=str(folder)),
        sampler=dict(type='DefaultSampler', shuffle=False),
        batch_size=1,
        num_workers=0,
    )
    with pytest.raises(
        ValueError, match=r'^the data set is empty: .*there are 5 \.jpg, 2 \.JPG'
    ) as e:
        Runner.build_dataloader(loader)
    assert f'(asked for: {asked}; first: {folder}/img/a.jpg)' in str(e.value)
