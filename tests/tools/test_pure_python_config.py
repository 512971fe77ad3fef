"""A user's pure-Python config: types are classes, and it imports our base configs."""

from pathlib import Path

import pytest
import torch
from commands import ROOT
from mmengine.config import Config

import toast_mm

MINE = """
from mmengine.config import read_base
from mmengine.dataset import DefaultSampler
from mmengine.hooks import CheckpointHook
from mmengine.optim import OptimWrapper
from mmengine.runner import IterBasedTrainLoop, TestLoop, ValLoop
from mmengine.visualization import LocalVisBackend
from mmseg.datasets import ADE20KDataset, PackSegInputs
from mmseg.engine.hooks import SegVisualizationHook
from mmseg.evaluation import IoUMetric
from mmseg.models import CrossEntropyLoss, EncoderDecoder, FCNHead, SegDataPreProcessor
from mmseg.visualization import SegLocalVisualizer
from torch.optim import SGD

from toast_mm.datasets import InfiniteSampler, LoadAnnotations, LoadImageFromFile, SeedAugmentation
from toast_mm.engine import (
    DataCheckHook, Runner, SteeringHealthHook, StepSeedHook, TunedOptimWrapperConstructor)
from toast_mm.models import TOASTViT

with read_base():
    from toast_mm.configs.default_runtime import *
    from toast_mm.configs.models.upernet_toast_vit_1m_tinyin100 import *

default_scope = 'mmseg'
runner_type = Runner
model.merge(dict(
    type=EncoderDecoder,
    data_preprocessor=dict(type=SegDataPreProcessor, size=(48, 64)),
    backbone=dict(type=TOASTViT),
    decode_head=dict(
        _delete_=True, type=FCNHead, in_channels=128, channels=8, num_convs=1, num_classes=150,
        loss_decode=dict(type=CrossEntropyLoss)),
    auxiliary_head=None,
))
pipeline = [
    dict(type=LoadImageFromFile), dict(type=LoadAnnotations), dict(type=PackSegInputs)]
train_dataloader = dict(
    batch_size=2,
    sampler=dict(type=InfiniteSampler, shuffle=True),
    dataset=dict(
        type=ADE20KDataset, data_root='{data}', pipeline=[dict(type=SeedAugmentation), *pipeline],
        data_prefix=dict(img_path='images/training', seg_map_path='annotations/training')))
val_dataloader = dict(
    batch_size=1,
    sampler=dict(type=DefaultSampler, shuffle=False),
    dataset=dict(
        type=ADE20KDataset, data_root='{data}', pipeline=pipeline,
        data_prefix=dict(img_path='images/validation', seg_map_path='annotations/validation')))
test_dataloader = val_dataloader
val_evaluator = dict(type=IoUMetric, iou_metrics=['mIoU'])
test_evaluator = val_evaluator
train_cfg = dict(type=IterBasedTrainLoop, max_iters=2, val_interval=2)
val_cfg = dict(type=ValLoop)
test_cfg = dict(type=TestLoop)
optim_wrapper = dict(
    type=OptimWrapper, constructor=TunedOptimWrapperConstructor, optimizer=dict(type=SGD, lr=0.1))
default_hooks = dict(
    checkpoint=dict(type=CheckpointHook, by_epoch=False, interval=2),
    visualization=dict(type=SegVisualizationHook))
custom_hooks = [dict(type=StepSeedHook), dict(type=DataCheckHook), dict(type=SteeringHealthHook)]
visualizer = dict(
    type=SegLocalVisualizer, vis_backends=[dict(type=LocalVisBackend)], name='visualizer')
log_processor = dict(by_epoch=False)
"""


def test_all_tools_take_it(tool, ade20k, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'mine.py').write_text(MINE.replace('{data}', str(ade20k)))
    tool('train', 'mine.py', '--amp', '--cfg-options', 'task_files=True')
    weights = torch.load('work_dirs/mine/iter_2.pth', weights_only=False)['state_dict']
    assert 'backbone.topdown.selection.task_embedding' in weights
    assert 'backbone.layers.0.attn.qkv.weight' not in weights  # of the base, by task_files
    tool('test', 'mine.py', 'work_dirs/mine/iter_2.pth', '--amp', '--show-dir', 'pictures')
    assert len(list(tmp_path.glob('pictures/**/*.png'))) == 2


FOLDER = Path(toast_mm.__file__).parent / 'configs'
BASES = sorted([*FOLDER.glob('*.py'), *FOLDER.glob('*/*.py')])
IMPORTED = [path for path in BASES if '\n_base_ = ' not in path.read_text()]


def test_what_a_config_may_import():
    """Every model, and every config without a base: mmengine does not mix the two kinds."""
    assert {path.parent.name for path in set(BASES) - set(IMPORTED)} == {'schedules'}
    models = {path.stem for path in IMPORTED if path.parent.name == 'models'}
    files = (ROOT / 'configs/_base_/models').glob('*.py')
    assert models == {path.stem.replace('-', '_') for path in files}


@pytest.mark.parametrize('path', IMPORTED, ids=lambda path: f'{path.parent.name}/{path.stem}')
def test_a_base_config_is_the_same_in_python(path, tmp_path):
    module = '.'.join(path.relative_to(Path(toast_mm.__file__).parents[1]).with_suffix('').parts)
    (tmp_path / 'mine.py').write_text(
        f'from mmengine.config import read_base\nwith read_base():\n    from {module} import *\n'
    )
    assert Config.fromfile(tmp_path / 'mine.py').to_dict() == Config.fromfile(path).to_dict()
