"""Confusion matrix over the pixels of known predictions."""

import pytest
import torch

from toast_mm.evaluation import PixelConfusionMatrix


def sample(truth, predicted):
    parts = dict(gt_sem_seg=truth, pred_sem_seg=predicted)
    return {
        **{name: dict(data=torch.tensor([[labels]])) for name, labels in parts.items()},
        'seg_map_path': 'mask.png',
    }


@pytest.fixture
def metric():
    metric = PixelConfusionMatrix()
    metric.dataset_meta = dict(classes=('sky', 'road', 'car'))
    return metric


def test_pixels_of_two_images(metric):
    metric.process({}, [sample([0, 0, 1, 255], [0, 1, 1, 2])])
    metric.process({}, [sample([2, 2, 0], [1, 2, 0])])
    result = metric.evaluate(2)['confusion_matrix/result']
    assert result.tolist() == [[2, 1, 0], [0, 1, 0], [0, 1, 1]]


def test_an_image_without_labels(metric):
    metric.process({}, [sample([255, 255], [0, 1])])
    assert metric.evaluate(1)['confusion_matrix/result'].sum() == 0


@pytest.mark.parametrize('label', [3, -1])
def test_a_label_outside_the_classes(metric, label):
    with pytest.raises(ValueError, match=rf'mask\.png: label {label} is outside .* 0\.\.2'):
        metric.process({}, [sample([0, label], [0, 1])])
