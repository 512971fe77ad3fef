"""tools/train.py and tools/test.py on an mmpretrain config that names the backbone."""

import json
import pickle
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def config(folders, tmp_path) -> Path:
    path = tmp_path / 'classifier.py'
    path.write_text(f"""
_base_ = '{ROOT}/configs/_base_/default_runtime.py'
default_scope = 'mmpretrain'
model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='toast_mm.TOASTViT',
        arch=dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32),
        img_size=32,
        patch_size=8,
    ),
    head=dict(type='VisionTransformerClsHead', num_classes=2, in_channels=16),
    data_preprocessor=dict(num_classes=2, mean=[127.5] * 3, std=[127.5] * 3, to_rgb=True),
)
train_pipeline = [
    dict(type='toast_mm.SeedAugmentation'),
    dict(type='LoadImageFromFile'),
    dict(type='RandomResizedCrop', scale=32),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=32),
    dict(type='PackInputs'),
]
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type='toast_mm.DefaultSampler', shuffle=True),
    dataset=dict(type='CustomDataset', data_root='{folders}/train', pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='CustomDataset', data_root='{folders}/val', pipeline=test_pipeline),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='Accuracy')
test_evaluator = val_evaluator
train_cfg = dict(by_epoch=True, max_epochs=4)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(
    constructor='toast_mm.TunedOptimWrapperConstructor', optimizer=dict(type='SGD', lr=0.05)
)
default_hooks = dict(
    checkpoint=dict(type='CheckpointHook', interval=1),
    visualization=dict(type='VisualizationHook'),
)
visualizer = dict(type='UniversalVisualizer', vis_backends=_base_.vis_backends)
""")
    return path


def test_train_and_test(tool, config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tool('train', config)
    work_dir = tmp_path / 'work_dirs' / 'classifier'  # where mm users look
    assert (work_dir / 'epoch_4.pth').exists()

    tool('test', config, work_dir / 'epoch_4.pth', '--out', 'o.pkl', '--show-dir', 'show')
    predictions = pickle.loads(Path('o.pkl').read_bytes())
    assert len(predictions) == len(list(Path('show').rglob('*.png'))) == 8
    tool(
        *('test', config, work_dir / 'epoch_4.pth'),
        *('--out', 'm.json', '--out-item', 'metrics'),
    )
    right = sum(int(p['pred_label'] == p['gt_label']) for p in predictions)
    metrics = json.loads(Path('m.json').read_text())
    assert metrics['accuracy/top1'] == pytest.approx(100 * right / 8)


def test_flips_at_test_time(tool, config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tool('train', config, '--cfg-options', 'train_cfg.max_epochs=1')
    checkpoint = tmp_path / 'work_dirs' / 'classifier' / 'epoch_1.pth'
    tool('test', config, checkpoint, '--out', 'plain.pkl')
    tool('test', config, checkpoint, '--out', 'flips.pkl', '--tta')
    plain, flips = (pickle.loads(Path(f'{name}.pkl').read_bytes()) for name in ('plain', 'flips'))
    pairs = list(zip(plain, flips, strict=True))
    assert all(p['img_path'] == f['img_path'] for p, f in pairs)
    assert any((p['pred_score'] != f['pred_score']).any() for p, f in pairs)


def test_resumed_training_ends_as_an_undisturbed_one(tool, config, tmp_path, monkeypatch):
    import torch

    from toast_mm.checkpoint import load_from_local

    monkeypatch.chdir(tmp_path)
    tool('train', config, '--work-dir', 'a')
    tool('train', config, '--work-dir', 'b', '--cfg-options', 'train_cfg.max_epochs=2')
    tool('train', config, '--work-dir', 'b', '--resume')
    whole, parts = (load_from_local(f'{name}/epoch_4.pth')['state_dict'] for name in 'ab')
    for name, tensor in whole.items():
        assert torch.equal(tensor, parts[name]), name


def results(tool, config, checkpoint, out):
    tool('test', config, checkpoint, '--out', out)
    return pickle.loads(Path(out).read_bytes())


@pytest.mark.parametrize('target', ['folded.pth', 'folded.safetensors'])
def test_folded_checkpoint_is_tested_by_the_same_config(
    tool, config, tmp_path, monkeypatch, target, capsys
):
    monkeypatch.chdir(tmp_path)
    tool('train', config, '--cfg-options', 'train_cfg.max_epochs=1')
    checkpoint = tmp_path / 'work_dirs' / 'classifier' / 'epoch_1.pth'
    plain = results(tool, config, checkpoint, 'plain.pkl')
    tool('model_converters/fold', checkpoint, target)
    folded = results(tool, config, target, 'folded.pkl')
    assert len(plain) == len(folded) == 8
    for one, other in zip(plain, folded, strict=True):
        assert one['img_path'] == other['img_path']
        assert one['pred_score'].tolist() == pytest.approx(other['pred_score'].tolist(), abs=1e-6)

    with pytest.raises(SystemExit, match=f'{target}: it is folded already'):
        tool('model_converters/fold', target, 'twice.pth')
    assert not Path('twice.pth').exists()
    with pytest.raises(RuntimeError, match='folded for inference and cannot be trained'):
        tool('train', config, '--cfg-options', f'load_from={target}')
