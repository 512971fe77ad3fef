"""Every method of the jobs in configs/fgvc: trained, saved as a task file, reloaded elsewhere."""

import copy
import functools
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
import torch
from extras import is_installed
from job_files import CONFIGS, load
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import load_checkpoint
from mmpretrain.structures import DataSample

from toast_mm.engine import Runner
from toast_mm.models import TOASTConvNeXt, TOASTViT

JOBS = {path.name.split('_')[0]: path for path in CONFIGS.glob('fgvc/*_vit-b16-in1k_*.py')}
(JOBS['inca_convnext-b'],) = CONFIGS.glob('fgvc/inca_convnext-b-in1k_*.py')
METHODS = sorted(name for name in JOBS if name != 'dora' or is_installed('peft'))  # an extra
BACKBONES = {
    'vit': dict(
        type='toast_mm.TOASTViT',
        arch=dict(embed_dims=16, num_layers=4, num_heads=2, feedforward_channels=32),
        img_size=32,
        patch_size=8,
    ),
    'convnext': dict(
        type='toast_mm.TOASTConvNeXt',
        arch=dict(depths=[1, 1, 1, 1], channels=[8, 8, 8, 16]),
    ),
}
UNFIT = {('convnext', name) for name in ('vpt', 'vpt-shallow', 'adaptformer', 'inca')}
UNFIT.add(('vit', 'inca_convnext-b'))
CASES = [(kind, name) for kind in BACKBONES for name in METHODS if (kind, name) not in UNFIT]

# Ends of names of what trains in addition to the head; the last block of the ViT is `layers.3`.
TOPDOWN = r'topdown\..*'
BIAS = r'(?!topdown).*\.bias'
TRAINS = {
    'linear': None,
    'inca': None,
    'inca_convnext-b': r'norm[012]\..*',  # of the outputs below the last stage
    'finetune': r'.*',
    'toast-last': TOPDOWN,
    'toast-early': TOPDOWN,
    'toast-late': TOPDOWN,
    'toast-lite': r'topdown\.(selection\..*|feedback\..*\.updates\..*)',
    'lora': r'.*\.lora_(up|down)\.weight',
    'toast-lora': rf'({TOPDOWN}|.*\.lora_(up|down)\.weight)',
    'vpt': r'layers\.\d\.prompts',
    'vpt-shallow': r'layers\.0\.prompts',
    'adaptformer': r'.*\.adapter\..*',
    'dora': r'.*\.peft\.lora_(A|B|magnitude_vector)\.default\.weight',
    'ssf': r'.*\.ssf_(scale|shift)',
    'bitfit': BIAS,
    'toast-bitfit': rf'({TOPDOWN}|{BIAS})',
    'partial': r'(layers\.3\.|ln1\.|downsample_layers\.3\.|stages\.3\.|norm3\.).*',
}


@pytest.fixture(scope='module')
def bases(tmp_path_factory):
    """A file with weights of each backbone."""
    folder = tmp_path_factory.mktemp('bases')
    for kind, cls in (('vit', TOASTViT), ('convnext', TOASTConvNeXt)):
        torch.manual_seed(0)
        sizes = {name: value for name, value in BACKBONES[kind].items() if name != 'type'}
        backbone = cls(**sizes, feedback_from=None)
        for parameter in backbone.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
        torch.save(backbone.state_dict(), folder / f'{kind}.pth')
    return folder


def arguments(method: str) -> tuple[dict, dict]:
    """Method of a config: arguments of the backbone and, for InCA, of the head."""
    model = load(JOBS[method]).to_dict()['model']
    plain = {'type', 'arch', 'img_size', 'patch_size', 'init_cfg'}
    backbone = {key: value for key, value in model['backbone'].items() if key not in plain}
    of_inca = ('type', 'num_layers', 'predict', 'init_cfg') if method.startswith('inca') else ()
    return backbone, {key: model['head'][key] for key in of_inca}


def job(kind, method, bases, folders, folder) -> Path:
    """A job of ten iterations."""
    of_backbone, of_head = arguments(method)
    of_backbone = {**BACKBONES[kind], **of_backbone}
    init_cfg = dict(type='Pretrained', checkpoint=str(bases / f'{kind}.pth'))
    path = folder / f'{method}_{kind}.py'
    of_stages = method == 'inca_convnext-b'
    channels = BACKBONES['convnext']['arch']['channels'] if of_stages else 16
    of_head = {**of_head, 'num_classes': 2, 'in_channels': channels}
    path.write_text(f"""
_base_ = [
    '{CONFIGS}/_base_/models/toast-{kind}-1m-tinyin100.py',
    '{CONFIGS}/_base_/classification_runtime.py',
]
model = dict(
    data_preprocessor=dict(num_classes=2, mean=[127.5] * 3, std=[127.5] * 3),
    backbone=dict({of_backbone}, _delete_=True, init_cfg={init_cfg}),
    head=dict({of_head}),
)
pipeline = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=32), dict(type='PackInputs')]
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type='toast_mm.InfiniteSampler'),
    dataset=dict(type='CustomDataset', data_root='{folders}/train', pipeline=pipeline),
)
train_cfg = dict(by_epoch=False, max_iters=10)
optim_wrapper = dict(
    constructor='toast_mm.TunedOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=0.01, weight_decay=0.1),
)
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=5))
log_level = 'ERROR'
work_dir = '{folder}/{method}_{kind}'
""")
    return path


RELOAD = """
import json, sys
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import load_checkpoint
import toast_mm

outputs = {}
for path in sys.argv[1:]:
    cfg = Config.fromfile(path)
    cfg.model.backbone.init_cfg = None
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(cfg.model)
    load_checkpoint(model, f'{cfg.work_dir}/iter_10.pth', map_location='cpu', strict=True)
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        outputs[path] = model.eval()(images).tolist()
print(json.dumps(outputs))
"""


def train(cfg) -> torch.nn.Module:
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner.model


def predict(model) -> torch.Tensor:
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return model.eval()(images)


@pytest.fixture(scope='module')
def trained(bases, folders, tmp_path_factory):
    """Config of a case and its model after ten steps, saved as a task file."""
    folder = tmp_path_factory.mktemp('trained')

    @functools.cache
    def make(kind, method) -> tuple[Path, Config, torch.nn.Module]:
        path = job(kind, method, bases, folders, folder)
        cfg = Config.fromfile(path)
        cfg.task_files = method != 'finetune'
        with mock.patch('mmengine.device.utils.DEVICE', 'cpu'):
            return path, cfg, train(cfg)

    return make


@pytest.mark.parametrize(('kind', 'method'), CASES)
def test_one_small_file_per_task(kind, method, trained, bases):
    """The file leaves out the base, and loads into a model without init_cfg."""
    before = (bases / f'{kind}.pth').read_bytes()
    _, cfg, model = trained(kind, method)
    base = torch.load(bases / f'{kind}.pth')
    moved = {n for n, t in model.backbone.state_dict().items() if n in base}
    moved = {n for n in moved if not torch.equal(base[n], model.backbone.state_dict()[n])}
    tuned = {n for n, p in model.backbone.named_parameters() if p.requires_grad}
    assert moved <= tuned
    file = f'{cfg.work_dir}/iter_10.pth'
    weights = torch.load(file, weights_only=False)['state_dict']
    left_out = {n for n in base if f'backbone.{n}' not in weights}
    left = set(base) - tuned - {'pos_embed'}  # which is resized to the images of the task
    assert left_out == (set() if method == 'finetune' else left)
    other = Config(copy.deepcopy(cfg.to_dict())).model
    other.backbone.init_cfg = None
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        fresh = MODELS.build(other)
    load_checkpoint(fresh, file, map_location='cpu', strict=True)
    assert torch.equal(predict(fresh), predict(model))
    assert (bases / f'{kind}.pth').read_bytes() == before


RESUMED = [('vit', 'toast-lite'), ('vit', 'vpt'), ('convnext', 'ssf'), ('convnext', 'toast-lora')]
RESUMED.append(('vit', 'dora'))


@pytest.mark.parametrize(('kind', 'method'), RESUMED)
def test_trained_in_two_parts(kind, method, trained, tmp_path, monkeypatch):
    monkeypatch.setattr('mmengine.device.utils.DEVICE', 'cpu')
    _, cfg, model = trained(kind, method)
    part = Config(dict(cfg, work_dir=str(tmp_path), experiment_name=f'half {kind} {method}'))
    train(Config(dict(part, train_cfg=dict(by_epoch=False, max_iters=5))))
    resumed = train(Config(dict(part, resume=True, experiment_name=f'whole {kind} {method}')))
    for name, tensor in resumed.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name


@pytest.mark.slow
def test_a_fresh_process_reads_the_files(trained):
    expected = {}
    for case in CASES:
        path, _, model = trained(*case)
        expected[str(path)] = predict(model)
    script = [sys.executable, '-c', RELOAD, *expected]
    printed = subprocess.run(script, check=True, capture_output=True, text=True).stdout
    outputs = json.loads(printed.splitlines()[-1])
    assert outputs.keys() == expected.keys() and len(outputs) == len(CASES)
    for path, output in outputs.items():
        assert torch.equal(torch.tensor(output), expected[path]), path


@pytest.mark.parametrize(('kind', 'method'), CASES)
def test_what_trains(kind, method, bases, folders, tmp_path):
    cfg = Config.fromfile(job(kind, method, bases, folders, tmp_path))
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(cfg.model)
    assert all(p.requires_grad for p in model.head.parameters())
    for name, parameter in model.backbone.named_parameters():
        pattern = TRAINS[method]
        trains = pattern is not None and bool(re.fullmatch(pattern, name))
        assert parameter.requires_grad == trains, name


@pytest.mark.parametrize(('kind', 'method'), sorted(UNFIT))
def test_what_does_not_fit_says_so(kind, method, bases, folders, tmp_path):
    cfg = Config.fromfile(job(kind, method, bases, folders, tmp_path))
    with pytest.raises(ValueError, match=r'VPT adds|AdaptFormer extends|is for a (ViT|Conv)'):
        MODELS.build(cfg.model.backbone)


@pytest.mark.parametrize('method', [name for name in METHODS if not name.startswith('inca')])
def test_with_upernet(method, ade20k):
    """Four maps for UPerNet, and gradients for everything that trains."""
    cfg = Config.fromfile(CONFIGS / 'ade20k_toast_upernet.py')
    dense = dict(out_type='featmap', out_indices=(0, 1, 2, 3))
    cfg.model.backbone = dict(BACKBONES['vit'], **dense, **arguments(method)[0])
    cfg.model.data_preprocessor.size = (32, 32)
    cfg.model.decode_head.update(in_channels=[16] * 4, channels=8)
    cfg.model.auxiliary_head.update(in_channels=16, channels=8)
    for head in (cfg.model.decode_head, cfg.model.auxiliary_head):
        head.norm_cfg.type = 'BN'
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(cfg.model).train()
    features = model.extract_feat(torch.rand(2, 3, 32, 32))
    assert [f.shape for f in features] == [(2, 16, 4, 4)] * 4
    total = sum(f.square().sum() for f in features)
    if method != 'linear':
        total.backward()
    for name, parameter in model.backbone.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name


@pytest.mark.parametrize(('kind', 'method'), CASES)
def test_under_autocast(kind, method, bases, folders, tmp_path):
    """bfloat16 changes outputs by rounding only, and there are gradients."""
    cfg = Config.fromfile(job(kind, method, bases, folders, tmp_path))
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(cfg.model).train()
    model.init_weights()
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    feats = model.extract_feat(images)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        rounded = model.extract_feat(images)
        sum(logits.float().square().sum() for logits in outputs(model, rounded)).backward()
    for full, half in zip(feats, rounded, strict=True):
        assert (full - half).abs().max() < 0.05 * full.abs().max()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
        assert parameter.grad is None or parameter.grad.isfinite().all(), name


def outputs(model, feats):
    """Logits; for InCA, of every layer."""
    head = model.head
    return head.layer_logits(feats) if hasattr(head, 'layer_logits') else [head(feats)]


TWO_PROCESSES = """
import os, sys
import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmpretrain.structures import DataSample
from torch.nn.parallel import DistributedDataParallel
import toast_mm

dist.init_process_group('gloo')
rank = dist.get_rank()
gradients = {}
for path in sys.argv[2:]:
    cfg = Config.fromfile(path)
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(cfg.model)
    model.init_weights()
    wrapped = DistributedDataParallel(model.train(), broadcast_buffers=False)
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(4, 3, 32, 32, generator=generator)[2 * rank : 2 * rank + 2]
    samples = [DataSample().set_gt_label(label) for label in (0, 1)]
    for _ in range(2):  # the second would fail on parameters that the first did not use
        model.zero_grad()
        sum(wrapped(images, samples, mode='loss').values()).backward()
    gradients[path] = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
if rank == 0:
    torch.save(gradients, sys.argv[1])
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_in_two_processes(bases, folders, tmp_path, unused_tcp_port):
    """Gradients are those of one process with the images of both, and none is missing."""
    paths = [str(job(kind, method, bases, folders, tmp_path)) for kind, method in CASES]
    (tmp_path / 'two.py').write_text(TWO_PROCESSES)
    command = [sys.executable, '-m', 'torch.distributed.run', '--nproc-per-node', '2']
    command += ['--master-port', str(unused_tcp_port), tmp_path / 'two.py', tmp_path / 'out.pt']
    environment = {**os.environ, 'OMP_NUM_THREADS': '1'}
    process = subprocess.run([*command, *paths], capture_output=True, env=environment, text=True)
    assert process.returncode == 0, process.stderr[-4000:]
    gradients = torch.load(tmp_path / 'out.pt')
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    samples = [DataSample().set_gt_label(label) for label in (0, 1, 0, 1)]
    for path in paths:
        cfg = Config.fromfile(path)
        torch.manual_seed(0)
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            model = MODELS.build(cfg.model)
        model.init_weights()
        sum(model.train()(images, samples, mode='loss').values()).backward()
        expected = {n: p.grad for n, p in model.named_parameters() if p.requires_grad}
        assert expected.keys() == gradients[path].keys(), path
        for name, gradient in expected.items():
            torch.testing.assert_close(gradients[path][name], gradient, atol=1e-5, rtol=1e-4)
