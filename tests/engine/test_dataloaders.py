"""Checks of data sets that loaders are built for."""

import pytest
from painted import draw

from toast_mm.engine.dataloaders import build_dataloader

MARK = b'\xef\xbb\xbf'


@pytest.fixture
def build(tmp_path):
    """Build a data set that lists two images, a mark before one of its files; its first sample."""
    for name in ('a.jpg', 'b.jpg'):
        draw(tmp_path / name)

    def build(kind, listed, marked=None, **settings):
        files = {'list.txt': listed, 'classes.txt': b'cat\ndog\n'}
        for name, content in files.items():
            (tmp_path / name).write_bytes(MARK + content if name == marked else content)
        dataset = dict(type=kind, ann_file=str(tmp_path / 'list.txt'), **settings)
        sampler = dict(type='DefaultSampler', shuffle=False)
        loader = dict(batch_size=1, num_workers=0, dataset=dataset, sampler=sampler)
        return build_dataloader(loader).dataset[0]['img_path']

    return build


@pytest.mark.parametrize(
    'kind, listed, prefix',
    [
        ('mmpretrain.CustomDataset', b'a.jpg 0\nb.jpg 1\n', str),
        ('mmseg.BaseSegDataset', b'a\nb\n', lambda folder: dict(img_path=folder)),
    ],
)
def test_byte_order_marks(build, tmp_path, kind, listed, prefix):
    """mmengine takes a mark for a part of the first path or class."""
    settings = dict(data_prefix=prefix(str(tmp_path)))
    settings['metainfo'] = dict(classes=str(tmp_path / 'classes.txt'))
    assert build(kind, listed, **settings) == str(tmp_path / 'a.jpg')
    with pytest.raises(
        ValueError, match=r'list\.txt begins with a byte order mark, .* without BOM$'
    ):
        build(kind, listed, 'list.txt', **settings)
    sentence = r"^the list of the classes '\\ufeffcat, dog' begins with a byte order mark"
    with pytest.raises(ValueError, match=sentence):
        build(kind, listed, 'classes.txt', **settings)


def test_a_name_with_a_mark(build, tmp_path):
    """Odd, but there."""
    (tmp_path / 'b.jpg').rename(tmp_path / '\ufeffb.jpg')
    settings = dict(data_prefix=str(tmp_path), classes=['cat', 'dog'])
    path = build('mmpretrain.CustomDataset', 'b.jpg 0\n'.encode('utf-8-sig'), **settings)
    assert path == str(tmp_path / '\ufeffb.jpg')
