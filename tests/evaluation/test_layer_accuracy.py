"""Accuracies of layers, for scores where they are known by hand."""

import subprocess
import sys

import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.registry import METRICS
from mmpretrain.structures import DataSample

from toast_mm.evaluation import LayerAccuracy

# Scores of two layers for three classes, and the label.
SCORES = [
    ([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0]], 0),  # the first is right, and the mean
    ([[0.5, 0.4, 0.1], [0.0, 0.9, 0.1]], 1),  # the second, and the mean
    ([[0.6, 0.3, 0.1], [0.4, 0.0, 0.6]], 2),  # the second alone
    ([[0.4, 0.3, 0.3], [0.0, 0.6, 0.4]], 2),  # none
    ([[0.1, 0.0, 0.9], [0.3, 0.3, 0.4]], 2),  # all
]
EXPECTED = {'top1': 40.0, 'layer0/top1': 40.0, 'layer1/top1': 60.0, 'ensemble/top1': 60.0}


@pytest.fixture
def predictions():
    given = []
    for layers, label in SCORES:
        sample = DataSample().set_gt_label(label).set_pred_score(torch.tensor(layers[0]))
        sample.set_field(torch.tensor(layers), 'layer_scores')
        given.append(sample)
    return given


def test_accuracies_under_the_prefix(predictions):
    evaluator = Evaluator(METRICS.build(dict(type='toast_mm.LayerAccuracy')))
    for start in (0, 2, 4):  # batches
        evaluator.process(predictions[start : start + 2])
    metrics = evaluator.evaluate(5)
    assert metrics == pytest.approx({f'accuracy/{name}': v for name, v in EXPECTED.items()})


def test_of_the_prediction_the_usual_accuracy(predictions):
    evaluator = Evaluator(LayerAccuracy(topk=(1, 2), prefix='val'))
    for sample in predictions:  # that of the second layer
        sample.set_pred_score(sample.layer_scores[1])
    evaluator.process(predictions)
    metrics = evaluator.evaluate(5)
    assert metrics.pop('val/top2') == pytest.approx(100.0)
    assert metrics == pytest.approx({f'val/{n}': v for n, v in (EXPECTED | {'top1': 60.0}).items()})


def test_results_of_several_processes(predictions):
    """Collected in any order, on one process."""
    results = []
    for share in (predictions[3:], predictions[:3]):
        metric = LayerAccuracy()
        metric.process(None, [sample.to_dict() for sample in share])
        results += metric.results
    assert LayerAccuracy().compute_metrics(results) == pytest.approx(EXPECTED)


def test_what_is_kept_of_a_sample_does_not_grow_with_the_classes(predictions):
    metric = LayerAccuracy()
    metric.process(None, [sample.to_dict() for sample in predictions])
    assert [result['layer_labels'].tolist() for result in metric.results] == [
        [0, 1, 0],
        [0, 1, 1],
        [0, 2, 0],
        [0, 1, 1],
        [2, 2, 2],
    ]
    assert 'layer_scores' not in metric.results[0]


def test_predictions_of_another_head(predictions):
    del predictions[0].layer_scores
    with pytest.raises(ValueError, match=r'no layer_scores; it works with toast_mm\.InCAHead'):
        Evaluator(LayerAccuracy()).process(predictions)


@pytest.mark.slow
def test_all_parts_are_registered_by_the_package():
    code = (
        'import toast_mm; from mmengine.registry import HOOKS, METRICS, MODELS; '
        "[registry.build(dict(type='toast_mm.' + name)) for registry, name in "
        "((HOOKS, 'BestLayerHook'), (METRICS, 'LayerAccuracy'))]; "
        "assert MODELS.get('toast_mm.InCAHead') and MODELS.get('toast_mm.InCADecodeHead')"
    )
    subprocess.run([sys.executable, '-W', 'ignore', '-c', code], check=True)
