"""From an empty directory, with the package as a wheel: the tools of mmengine and its packages."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from digits_files import make_digits
from extras import is_installed
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope

import toast_mm

ROOT = Path(__file__).parents[1]

SEGMENTATION = """
default_scope = 'mmseg'
custom_imports = dict(imports=['toast_mm'], allow_failed_imports=False)
pipeline = [
    dict(type=name) for name in ('LoadImageFromFile', 'LoadAnnotations', 'PackSegInputs')
]
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(type='SegDataPreProcessor', size=(48, 64), seg_pad_val=255),
    backbone=dict(
        type='toast_mm.TOASTViT',
        arch=dict(embed_dims=16, num_layers=4, num_heads=2, feedforward_channels=32),
        patch_size=8,
        out_type='featmap',
        feedback_from='middle',
    ),
    decode_head=dict(
        type='FCNHead', in_channels=16, in_index=0, channels=8, num_convs=1, num_classes=150
    ),
)
dataset = dict(type='ADE20KDataset', data_root={data!r}, pipeline=pipeline,
    data_prefix=dict(img_path='images/training', seg_map_path='annotations/training'))
train_dataloader = dict(
    batch_size=2, sampler=dict(type='InfiniteSampler', shuffle=True), dataset=dataset
)
train_cfg = dict(type='IterBasedTrainLoop', max_iters=2)
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1))
"""

CLASSIFICATION = """
default_scope = 'mmpretrain'
custom_imports = dict(imports=['toast_mm'], allow_failed_imports=False)
model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='toast_mm.TOASTViT',
        arch=dict(embed_dims=16, num_layers=4, num_heads=2, feedforward_channels=32),
        img_size=40,
        patch_size=8,
    ),
    head=dict(type='VisionTransformerClsHead', num_classes=2, in_channels=16),
)
train_dataloader = dict(
    batch_size=6,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='CustomDataset', data_root={data!r} + '/train',
        pipeline=[dict(type='LoadImageFromFile'), dict(type='PackInputs')]),
)
train_cfg = dict(by_epoch=True, max_epochs=1)
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1))
"""

TRAIN = """
import copy, sys
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

class Remember(Hook):
    def before_train(self, runner):
        self.weights = copy.deepcopy(runner.model.state_dict())

cfg = Config.fromfile(sys.argv[1])
cfg.work_dir = 'runs'
cfg.randomness = dict(seed=0)  # a task embedding that selects some token of this tiny model
runner = Runner.from_cfg(cfg)
assert type(runner) is Runner
start = Remember()
runner.register_hook(start)
runner.train()
import toast_mm
print('package', toast_mm.__file__)
print('steps', runner.iter)
for name, tensor in runner.model.state_dict().items():
    if not tensor.equal(start.weights[name]):
        print('moved', name)
"""

# Jobs of the quickstart that a user inherits by name: two iterations on a small ViT of the wheel.
JOBS = {
    'mmseg': 'toast-vit-1m_upernet_1xb16-350_digits-scenes-64x64',
    'mmpretrain': 'toast-vit-1m_1xb32-400_digits-cued-64x64',
}
SHORT = """
train_cfg = dict(max_iters=2, val_interval=2)
default_hooks = dict(checkpoint=dict(interval=2))
train_dataloader = dict(batch_size=8)
"""

INFERENCE = """
import sys
import toast_mm.apis
from glob import glob
from mmpretrain import ImageClassificationInferencer, get_model, inference_model, list_models
from mmseg.apis import MMSegInferencer, inference_model as segment, init_model

classifier, segmentor = sys.argv[1:]
card = sorted(glob('data/digits/cued/test/*/*.png'))[0]
scene = sorted(glob('data/digits/scenes/JPEGImages/*'))[0]
print('found', classifier in list_models('*toast*'))
model = get_model(classifier, pretrained='work_dirs/my_mmpretrain/iter_2.pth')
print('found', inference_model(model, card)['pred_class'])
inferencer = ImageClassificationInferencer(classifier, 'work_dirs/my_mmpretrain/iter_2.pth')
print('found', inferencer(card)[0]['pred_class'])
config, weights = 'my_mmseg.py', 'work_dirs/my_mmseg/iter_2.pth'
labels = segment(init_model(config, weights, device='cpu'), scene).pred_sem_seg.data[0].numpy()
for name in (config, segmentor, f'toast_mm::quickstart/{segmentor}.py'):
    inferencer = MMSegInferencer(name, weights, device='cpu')
    print('found', labels.shape, (inferencer(scene)['predictions'] == labels).all())
"""

# The base expression is evaluated, and with it the import that makes the name known.
INHERITING = """
_base_ = [__import__('toast_mm') and 'toast_mm::_base_/models/'
          'upernet_toast-vit-b16-in21k.py', 'mmseg::_base_/schedules/schedule_20k.py']
model = dict(backbone=dict(feedback_to=2))
"""


@pytest.fixture(scope='module')
def site(tmp_path_factory) -> Path:
    """Folder with the package as its wheel installs it."""
    folder = tmp_path_factory.mktemp('site')
    pip = [sys.executable, '-m', 'pip', '--disable-pip-version-check']
    subprocess.run(
        [*pip, 'wheel', '-q', '--no-deps', '--no-build-isolation', '-w', folder / 'wheel', ROOT],
        check=True,
    )
    (wheel,) = (folder / 'wheel').glob('toast_mm-*.whl')
    subprocess.run(
        [*pip, 'install', '-q', '--no-deps', '--no-index', '--target', folder / 'site', wheel],
        check=True,
    )
    return folder / 'site'


def run(site: Path, folder: Path, *arguments: str) -> str:
    """Run Python in a folder of one's own, with the wheel's package and not the repository's."""
    process = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, 'PYTHONPATH': str(site), 'OMP_NUM_THREADS': '1'},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr[-4000:]
    return process.stdout


@pytest.fixture(scope='module')
def trained(site, tmp_path_factory) -> Path:
    """A user's folder with data of the quickstart and jobs trained by the tools of the packages."""
    folder = tmp_path_factory.mktemp('user')
    sizes = dict(train=8, val=4, test=4)
    make_digits(folder / 'data/digits', dict(scenes=sizes, cued=dict(train=40, val=10, test=10)))
    for package, job in JOBS.items():
        inherited = f"_base_ = [__import__('toast_mm') and 'toast_mm::quickstart/{job}.py']"
        (folder / f'my_{package}.py').write_text(inherited + SHORT)
        run(site, folder, stock(package, 'train'), f'my_{package}.py')
    return folder


def stock(package: str, tool: str) -> str:
    """A tool of mmseg or mmpretrain."""
    return f'{Path(importlib.util.find_spec(package).origin).parent}/.mim/tools/{tool}.py'


@pytest.mark.parametrize(
    'config, data, head',
    [(SEGMENTATION, 'ade20k', 'decode_head'), (CLASSIFICATION, 'folders', 'head')],
)
def test_a_config_of_ones_own_trains(site, tmp_path, request, config, data, head):
    root = str(request.getfixturevalue(data))
    (tmp_path / 'mine.py').write_text(config.replace('{data!r}', repr(root)))
    (tmp_path / 'train.py').write_text(TRAIN)
    lines = run(site, tmp_path, 'train.py', 'mine.py').splitlines()
    assert f'package {site}/toast_mm/__init__.py' in lines
    assert 'steps 2' in lines
    moved = {line.split()[1] for line in lines if line.startswith('moved ')}
    assert 'backbone.topdown.selection.task_embedding' in moved
    assert any(name.startswith(f'{head}.') for name in moved)
    assert not any(n.startswith('backbone.') and 'topdown' not in n for n in moved)


def test_a_text_config_inherits_by_name(site, tmp_path):
    (tmp_path / 'mine.py').write_text(INHERITING)
    code = "from mmengine.config import Config; cfg = Config.fromfile('mine.py'); " + (
        'b = cfg.model.backbone; print(b.feedback_from, b.feedback_to, cfg.train_cfg.max_iters)'
    )
    output = run(site, tmp_path, '-c', code)
    assert output.splitlines()[-1] == 'middle 2 20000'


@pytest.mark.slow
def test_a_job_of_the_wheel_is_inherited_whole(site, tmp_path):
    (tmp_path / 'mine.py').write_text(
        "_base_ = [__import__('toast_mm') and 'toast_mm::camvid/"
        "toast-vit-1m_upernet_1xb8-600_camvid-96x96.py']\n"
        'model = dict(decode_head=dict(channels=32))\n'
    )
    code = "from mmengine.config import Config; m = Config.fromfile('mine.py').model; " + (
        'print(m.decode_head.type, m.decode_head.channels, m.backbone.type)'
    )
    assert run(site, tmp_path, '-c', code).splitlines()[-1] == 'UPerHead 32 toast_mm.TOASTViT'


@pytest.mark.slow
@pytest.mark.parametrize('package, metric', [('mmseg', 'mIoU'), ('mmpretrain', 'accuracy/top1')])
def test_the_tools_of_the_packages_train_and_test(site, trained, package, metric):
    folder = trained / f'work_dirs/my_{package}'
    weights = torch.load(folder / 'iter_2.pth', weights_only=False)
    assert weights['meta']['iter'] == 2
    assert weights['meta']['cfg'].count('toast_mm.TOASTViT') == 1
    run(site, trained, stock(package, 'test'), f'my_{package}.py', f'{folder}/iter_2.pth')
    trained_log, tested_log = sorted(folder.glob('*/*.log'))
    assert 'Iter(val) [1/1]' in trained_log.read_text()
    assert f'{metric}: ' in tested_log.read_text().split('Iter(test) [1/1]')[-1]


@pytest.mark.slow
def test_inference_of_the_packages_takes_names_of_ours(site, trained):
    (trained / 'infer.py').write_text(INFERENCE)
    output = run(site, trained, 'infer.py', JOBS['mmpretrain'], JOBS['mmseg'])
    lines = re.findall('found (.*)', output)  # some after a progress bar, on its line
    listed, function, inferencer, *segmented = lines
    assert listed == 'True'
    assert function == inferencer and function in map(str, range(10))
    assert segmented == ['(64, 64) True'] * 3


@pytest.mark.slow
@pytest.mark.skipif(not is_installed('openmim'), reason='needs requirements/mim.txt')
@pytest.mark.parametrize('package, metric', [('mmseg', 'mIoU'), ('mmpretrain', 'accuracy/top1')])
def test_mim_trains_and_tests(site, trained, tmp_path, package, metric):
    (tmp_path / 'data').symlink_to(trained / 'data')
    job = f'{JOBS[package]}.py'
    options = ['--cfg-options', 'train_cfg.max_iters=2', 'train_cfg.val_interval=2']
    options += ['train_dataloader.batch_size=8', 'default_hooks.checkpoint.interval=2']
    mim = ['-W', 'ignore', '-m', 'mim']
    output = run(site, tmp_path, *mim, 'train', 'toast_mm', job, '--gpus', '0', *options)
    assert 'Training finished successfully.' in output
    checkpoint = f'work_dirs/{JOBS[package]}/iter_2.pth'
    arguments = ['toast_mm', job, '--checkpoint', checkpoint, '--gpus', '0']
    output = run(site, tmp_path, *mim, 'test', *arguments)
    assert f'{metric}: ' in output and 'Testing finished successfully.' in output


@pytest.mark.parametrize(
    'base',
    [
        'vit/vit_vit-b16_mln_upernet_8xb2-80k_ade20k-512x512.py',
        'upernet/upernet_r50_4xb4-80k_ade20k-512x512.py',
    ],
)
def test_the_config_of_the_readme_works_on_mmsegs_own(base, tmp_path):
    (tmp_path / 'my_upernet_config.py').write_text(f"_base_ = 'mmseg::{base}'")
    blocks = re.findall(r'```python\n(.*?)```', (ROOT / 'README.md').read_text(), re.DOTALL)
    (config,) = (block for block in blocks if 'my_upernet_config.py' in block)
    (tmp_path / 'mine.py').write_text(config)
    cfg = Config.fromfile(tmp_path / 'mine.py')
    assert cfg.model.data_preprocessor.mean == cfg.model.data_preprocessor.std == [127.5] * 3
    with torch.device('meta'), DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(cfg.model)
    assert type(model.backbone) is toast_mm.models.TOASTViT
    assert not model.with_neck
    outputs = model.backbone(torch.rand(1, 3, 512, 512, device='meta'))
    assert [tuple(output.shape) for output in outputs] == [(1, 768, 32, 32)] * 4
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    state = {id(p) for group in wrapper.optimizer.param_groups for p in group['params']}
    frozen = {id(p) for p in model.parameters() if not p.requires_grad}
    assert state and frozen and not state & frozen
