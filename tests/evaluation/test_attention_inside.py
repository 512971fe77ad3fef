"""The share of the attention on objects, against sums over single pixels."""

from types import SimpleNamespace

import pytest
import torch

from toast_mm.evaluation import AttentionInside, attention_inside
from toast_mm.visualization import AttentionMaps

CLASSES = ('background', 'bird', 'tree')


def maps(*passes, what='attention') -> AttentionMaps:
    """Maps of two heads with a mean of ``passes``, each ``(B, h, w)``."""
    heads = [
        None if found is None else torch.stack([0.5 * found, 1.5 * found], 1) for found in passes
    ]
    return AttentionMaps(None, *heads, what=what)


def random_maps(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(len(shape)))


@pytest.fixture
def measure(monkeypatch):
    """Evaluate samples whose maps are given: ``measure(samples, maps, (H, W))``."""

    def evaluate(samples, found, size, **arguments):
        metric = AttentionInside(**arguments)
        metric.dataset_meta = dict(classes=CLASSES)
        images = torch.zeros(len(samples), 3, *size)
        preprocess = lambda batch, training: dict(inputs=images)  # noqa: E731
        metric.model = SimpleNamespace(data_preprocessor=preprocess, backbone='the backbone')
        monkeypatch.setattr(
            attention_inside,
            'attention_maps',
            lambda backbone, inputs, block: {5: found} if inputs is images else {},
        )
        metric.process({}, samples)
        return metric.evaluate(len(samples))

    return evaluate


def boxed(boxes, size, **others):
    return dict(gt_bboxes=torch.tensor(boxes, dtype=torch.float), img_shape=size, **others)


def masked(labels, size=None):
    labels = torch.tensor(labels)
    return dict(gt_sem_seg=dict(data=labels[None]), img_shape=size or labels.shape)


def test_a_box_on_whole_patches(measure):
    """Two of eight patches hold 3/4 and 1/4 of the attention, in all."""
    first, second = torch.full((2, 2, 4), 1.0), torch.zeros(2, 2, 4)
    second[:, 0, 0], second[:, 1, 3] = 3.0, 1.0
    samples = [boxed([[0, 0, 8, 8]], (16, 32)), boxed([[24, 8, 32, 16]], (16, 32))]
    metrics = measure(samples, maps(first, second), (16, 32))
    assert metrics == pytest.approx(
        {
            'attention_inside/uniform': 100 / 8,
            'attention_inside/first': 100 / 8,
            'attention_inside/second': (75 + 25) / 2,
        }
    )


def test_boxes_that_cut_pixels_and_each_other(measure):
    """Sums over an eightfold finer grid, in which no pixel is cut."""
    boxes = [[1.5, 2.25, 9.75, 6.5], [7.125, 5.0, 14.25, 11.875]]
    first = random_maps(1, 3, 4)
    metrics = measure([boxed(boxes, (12, 16))], maps(first, None), (12, 16))
    inside = torch.zeros(96, 128)
    for left, top, right, bottom in boxes:
        inside[int(top * 8) : int(bottom * 8), int(left * 8) : int(right * 8)] = 1
    fine = first[0].repeat_interleave(32, 0).repeat_interleave(32, 1)
    # A pixel that two boxes cut counts once, by the larger part: here they are 4 x 4 pixels.
    expected = 100 * (fine * inside).sum() / fine.sum()
    assert metrics['attention_inside/first'] == pytest.approx(expected.item(), rel=0.02)
    assert metrics['attention_inside/uniform'] == pytest.approx(
        100 * inside.mean().item(), rel=0.02
    )
    assert 'attention_inside/second' not in metrics


def test_masks_with_pixels_that_do_not_count(measure):
    labels = [[1, 1, 0, 255], [0, 2, 255, 255]]
    first = torch.tensor([[[0.1, 0.2, 0.3, 0.1], [0.05, 0.05, 0.1, 0.1]]])
    for classes, inside, number in (
        (None, 0.1 + 0.2 + 0.05, 3),
        (['bird'], 0.1 + 0.2, 2),
        ([2], 0.05, 1),
    ):
        metrics = measure([masked(labels)], maps(first, first), (2, 4), classes=classes)
        share = 100 * inside / (0.1 + 0.2 + 0.3 + 0.05 + 0.05)
        assert metrics['attention_inside/first'] == pytest.approx(share)
        assert metrics['attention_inside/uniform'] == pytest.approx(100 * number / 5)


def test_another_label_that_does_not_count(measure):
    first = torch.tensor([[[0.5, 0.25, 0.25]]])
    metrics = measure([masked([[1, 0, 2]])], maps(first, first), (1, 3), ignore_index=2)
    assert metrics['attention_inside/first'] == pytest.approx(100 * 0.5 / 0.75)


def test_padding_is_no_part_of_the_image(measure):
    """A mask of the original image, resized to 6 x 8 and padded to 8 x 12 for the model."""
    found = random_maps(1, 4, 6)
    labels = torch.zeros(12, 16, dtype=torch.int)
    labels[4:12, 0:4] = 1  # patches 1 and 2 of the first column, and half of them
    metrics = measure([masked(labels.tolist(), (6, 8))], maps(found, None), (8, 12))
    shown = found[0, :3, :4]
    expected = 100 * (shown[1:3, 0].sum()) / shown.sum()
    assert metrics['attention_inside/first'] == pytest.approx(expected.item())
    assert metrics['attention_inside/uniform'] == pytest.approx(100 * 32 / 192)


def test_images_without_objects_are_left_out(measure):
    first = torch.tensor([[[0.25, 0.75]], [[0.5, 0.5]], [[1.0, 0.0]]])
    samples = [boxed([[0, 0, 1, 1]], (1, 2)), boxed([], (1, 2)), masked([[255, 0]])]
    metrics = measure(samples, maps(first, first), (1, 2))
    assert metrics['attention_inside/first'] == pytest.approx(25)
    with pytest.raises(ValueError, match='no image has an object'):
        measure(samples[1:], maps(first, first), (1, 2))


def test_energy_is_called_so(measure):
    first = torch.ones(1, 1, 2)
    metrics = measure([boxed([[0, 0, 1, 1]], (1, 2))], maps(first, first, what='energy'), (1, 2))
    assert {name.split('/')[1] for name in metrics} == {'uniform', 'energy_first', 'energy_second'}


def test_a_pass_that_does_not_run_the_block_is_left_out(measure):
    metrics = measure([boxed([[0, 0, 1, 1]], (1, 2))], maps(None, torch.ones(1, 1, 2)), (1, 2))
    assert set(metrics) == {'attention_inside/uniform', 'attention_inside/second'}


@pytest.mark.parametrize(
    ('sample', 'size', 'arguments', 'sentence'),
    [
        (dict(img_path='a.png'), (1, 2), {}, r'a\.png has neither a mask .* nor boxes'),
        (masked([[1, 0]]), (1, 2), dict(classes=['cat']), r"'cat' is no class .* bird, tree"),
        (boxed([[0, 0, 1, 1]], (1, 3)), (1, 3), {}, r'\(1, 3\) pixels are not evenly divided'),
    ],
)
def test_errors(measure, sample, size, arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        measure([sample], maps(torch.ones(1, 1, 2), None), size, **arguments)


def test_without_a_background_classes_must_be_named():
    metric = AttentionInside()
    metric.dataset_meta = dict(classes=('sky', 'road'))
    with pytest.raises(ValueError, match=r"say which classes are objects: classes=\['sky'\]"):
        metric._objects(masked([[0, 1]]))


def test_the_model_is_not_known():
    with pytest.raises(ValueError, match=r'add dict\(type=.toast_mm\.MetricModelHook'):
        AttentionInside().process({}, [boxed([[0, 0, 1, 1]], (1, 2))])
