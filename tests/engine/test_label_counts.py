import pytest
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from toast_mm.engine.label_counts import LabelCounts, check_size


def count(*masks: list[int], classes=('road', 'car'), reduced: bool = False, **settings):
    counts = LabelCounts(
        'train', len(classes), **{'ignore_index': 255, **settings}, classes=classes
    )
    for number, mask in enumerate(masks):
        meta = dict(seg_map_path=f'{number}.png', reduce_zero_label=reduced)
        counts.add(torch.tensor([mask]), SegDataSample(metainfo=meta))
    return counts


def test_counts():
    counts = count([0, 0, 1, 255], [255, 255, 0, 0], classes=('a', 'b', 'c'))
    assert counts.counts.tolist() == [4, 1, 0, 3]
    assert counts.file == '0.png'


def test_masks_of_0_and_255():
    sentence = (
        "class 'car' never occurs in the train data, but 37.5% of the labels are 255, which is "
        'ignored; the first such file is 1.png: masks of 0 and 255 must be converted to 0 and 1'
    )
    counts = count([0, 0, 0, 0], [0, 255, 255, 255])
    assert counts.judge(complete=True) == (sentence, None)
    assert counts.judge(complete=False) == (None, f'so far, {sentence}')


def test_masks_of_0_and_1_reduced():
    """Label 0 became 255 and 1 became 0."""
    error, _ = count([0, 255], reduced=True).judge(complete=True)
    assert error.endswith(': leave out reduce_zero_label, or number the classes from 1')


@pytest.mark.parametrize('complete', [True, False])
def test_all_ignored(complete):
    error, warning = count([255, 255], [255], reduced=True).judge(complete)
    assert warning is None and error == (
        'all labels of the train data are ignored: 100.0% of the labels are 255 '
        '(from 0, by reduce_zero_label); the first such file is 0.png'
    )


def test_classes_that_never_occur():
    names = [f'c{i}' for i in range(15)]
    counts = count([1, 2, 255], classes=names)
    expected = ', '.join(f"'c{i}'" for i in (0, *range(3, 12)))
    assert counts.judge(complete=True) == (
        None,
        f'13 of 15 classes: {expected} and 3 more never occurs in the train data, but 33.3% of '
        'the labels are 255, which is ignored; the first such file is 0.png',
    )
    assert counts.judge(complete=False) == (None, None)


def test_no_warning():
    assert count([0, 1, 255]).judge(complete=True) == (None, None)
    assert count().judge(complete=True) == (None, None)  # no truth
    # A class that is ignored need not occur.
    assert count([1, 2], classes='abc', ignore_index=0).judge(complete=True) == (None, None)
    assert count([0, 0, 1], classes='abc', ignore_index=0).counts.tolist() == [0, 1, 0, 2]


def masked(height: int, width: int, ori_shape: tuple | None = None) -> SegDataSample:
    meta = dict(seg_map_path='m.png', img_path='a.jpg', ori_shape=ori_shape)
    sample = SegDataSample(metainfo=meta)
    sample.gt_sem_seg = PixelData(data=torch.zeros(1, height, width))
    return sample


def test_sizes():
    image = torch.zeros(3, 4, 6)
    check_size(masked(4, 6), image, 'train')
    check_size(masked(8, 12, (8, 12)), image, 'val')  # the truth keeps its size
    check_size(masked(4, 6, (8, 12)), image, 'val')  # or is resized as well
    check_size(SegDataSample(), image, 'val')
    for sample, part, size in (
        (masked(8, 12, (8, 12)), 'train', '6 x 4'),
        (masked(12, 8, (8, 12)), 'test', '12 x 8'),
    ):
        height, width = sample.gt_sem_seg.shape
        with pytest.raises(ValueError) as info:
            check_size(sample, image, part)
        assert str(info.value) == (
            f'm.png is a mask of {width} x {height} pixels, but its image a.jpg has {size}'
        )
