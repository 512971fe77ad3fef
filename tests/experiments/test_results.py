"""Results that are read from the folders of runs."""

import json

import pytest
from mmengine.config import Config
from mmpretrain.models import ConvNeXt

from toast_mm.checkpoint import trusted
from toast_mm.engine.hooks.tuned_parameters_hook import TUNED
from toast_mm.experiments.results import Result, read_results, tuned_parameters

METRIC = 'accuracy/top1'
NAMES = {
    'toast-last_vit-b16-in1k_1xb32-100e_cub-224x224': ('toast-last', 'vit-b16-in1k', 'cub'),
    'linear_vit-1m_1xb64-20e_novel20-64x64': ('linear', 'vit-1m', 'novel20'),
    'toast_vit-b16-in21k_1xb32-100e_vtab': ('toast', 'vit-b16-in21k', 'vtab'),
    'lora_vit-b16-in1k_1xb32-100e_fgvc-224x224_cars': ('lora', 'vit-b16-in1k', 'cars'),
    'ade20k_toast_upernet': ('toast', 'vit-b16', 'ade20k'),
    'toast-last-vit-b16_upernet_8xb2-160k_ade20k-512x512': ('toast-last', 'vit-b16', 'ade20k'),
    'linear-vit-b14-dinov2_8xb2-40k_ade20k-518x518': ('linear', 'vit-b14-dinov2', 'ade20k'),
    'toast-last-convnext-b-dinov3_upernet_8xb2-20k_voc12aug-512x512': (
        'toast-last',
        'convnext-b-dinov3',
        'voc12aug',
    ),
    'inca-vit-b16_8xb2-20k_voc12aug-512x512_slide': ('inca', 'vit-b16', 'voc12aug'),
    'toast-vit-1m_1xb32-400_digits-cued-64x64': ('toast', 'vit-1m', 'digits-cued'),
    'mine': ('mine', '', ''),
}


def model(**backbone):
    arch = dict(embed_dims=8, num_layers=2, num_heads=2, feedforward_channels=8)
    return dict(
        type='ImageClassifier',
        _scope_='mmpretrain',
        backbone=dict(type='toast_mm.TOASTViT', arch=arch, img_size=16, patch_size=8, **backbone),
        head=dict(type='VisionTransformerClsHead', num_classes=2, in_channels=8),
    )


def log(folder, stamp, *records, seed=0, **backbone):
    place = folder / stamp / 'vis_data'
    place.mkdir(parents=True)
    (place / 'scalars.json').write_text('\n'.join(json.dumps(record) for record in records))
    cfg = dict(model=model(**backbone), randomness=dict(seed=seed), default_scope='mmpretrain')
    cfg['train_cfg'] = dict(by_epoch=True, max_epochs=5)
    Config(cfg).dump(place / 'config.py')
    (place / TUNED).write_text('{"backbone": 7}')


@pytest.mark.parametrize(('job', 'names'), NAMES.items())
def test_names(tmp_path, job, names):
    log(tmp_path / job, '1', {METRIC: 5.0, 'step': 5})
    (result,) = read_results(tmp_path / job, METRIC)
    assert (result.method, result.backbone, result.data) == names


def test_newest_training(tmp_path):
    """The last validation counts, of the newest log that has one."""
    folder = tmp_path / 'mine'
    log(folder, '20260101_000000', {METRIC: 90.0, 'step': 5}, seed=3)
    validations = {METRIC: 60.0, 'step': 3}, {'loss': 1.0}, {METRIC: 50.0, 'step': 5}
    log(folder, '20260102_000000', *validations, seed=4)
    log(folder, '20260103_000000', {'loss': 1.0}, seed=5)
    with (folder / '20260102_000000' / 'vis_data' / 'scalars.json').open('a') as file:
        file.write('\n{"accuracy/top1": 7')  # cut by an interruption
    assert read_results(folder, METRIC) == [Result('mine', '', '', 4, 50.0, 7)]


def test_the_number_of_tuned_parameters_of_another_runner(tmp_path):
    """It is not written there, and somebody else's config may run any code."""
    log(tmp_path / 'mine', '1', {METRIC: 5.0, 'step': 5})
    (tmp_path / 'mine' / '1' / 'vis_data' / TUNED).unlink()
    assert read_results(tmp_path / 'mine', METRIC)[0].tuned is None
    with trusted():
        tuned = 8 + 8 * 8 + 2 * 2 * 8 * 8  # task embedding, channel transform, two layers
        assert read_results(tmp_path / 'mine', METRIC)[0].tuned == tuned


def test_tuned_parameters():
    assert tuned_parameters(Config(dict(model=model(feedback_from=None)))) == 0
    lite = model(lite=dict(rank=2))
    assert tuned_parameters(Config(dict(model=lite))) == 8 + 64 + 4 * 2 * (8 + 8)
    arch = dict(depths=[1, 1, 1, 1], channels=[4, 6, 8, 10])
    convnext = dict(type='toast_mm.TOASTConvNeXt', arch=arch, feedback_from=None, frozen=False)
    classifier = dict(type='ImageClassifier', backbone=convnext)
    cfg = Config(dict(model=classifier, default_scope='mmpretrain'))
    by_hand = sum(parameter.numel() for parameter in ConvNeXt(arch).parameters())
    assert tuned_parameters(cfg) == by_hand


def test_sweep(tmp_path):
    records = [
        dict(name='1', phase='search', seed=0, metrics={METRIC: 1.0}, task='cifar'),
        dict(name='2', phase='final', seed=42, metrics={METRIC: 9.0}, task='cifar', tuned=9),
        dict(name='3', phase='final', seed=44, metrics={METRIC: 3.0}, task='dtd', tuned=7),
        dict(name='2', phase='final', seed=42, metrics={METRIC: 2.0}, task='cifar', tuned=7),
        dict(name='4', metrics={METRIC: 4.0}),
    ]
    job = 'toast-last_vit-b16-in21k_1xb32-100e_vtab-224x224'
    lines = [json.dumps(dict(record, job=job)) for record in records]
    (tmp_path / 'runs.jsonl').write_text('\n'.join(lines))
    assert read_results(tmp_path, METRIC) == [
        Result('toast-last', 'vit-b16-in21k', 'cifar', 42, 2.0, 7),
        Result('toast-last', 'vit-b16-in21k', 'dtd', 44, 3.0, 7),
    ]


def test_an_interrupted_training_is_no_result(tmp_path):
    log(tmp_path / 'mine', '1', {METRIC: 5.0, 'step': 4})
    with pytest.raises(
        ValueError, match=r'its last validation is at step 4 of 5; continue it with --resume'
    ):
        read_results(tmp_path / 'mine', METRIC)


def test_nothing_to_read(tmp_path):
    with pytest.raises(FileNotFoundError, match='nowhere is not a folder'):
        read_results(tmp_path / 'nowhere', METRIC)
    log(tmp_path / 'mine', '1', {METRIC: 5.0, 'step': 5})
    with pytest.raises(FileNotFoundError, match='nor a training that validated mIoU'):
        read_results(tmp_path / 'mine', 'mIoU')
