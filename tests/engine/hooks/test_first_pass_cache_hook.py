"""Training with cached first passes equals training without; a stale cache is not used."""

import io
import os
import re
import shutil
from contextlib import redirect_stdout

import numpy as np
import pytest
import torch
from mmcv.transforms import Compose
from mmengine.config import ConfigDict
from mmengine.hooks import Hook
from mmpretrain.models.backbones.vision_transformer import TransformerEncoderLayer
from PIL import Image

from toast_mm.engine.first_passes import ServedPipeline
from toast_mm.files import WriteError

METHODS = {
    'last': dict(feedback_from='last'),
    'early': dict(feedback_from='middle'),
    'late': dict(feedback_from='last', feedback_to='middle'),
    'dense late': dict(feedback_to='middle', out_indices=(0, 3)),
    'linear probe': dict(feedback_from=None),
    'lite': dict(lite=dict(rank=2)),
    'coarse late': dict(feedback_to='middle', first_pass=dict(scale=0.5)),
}
# Number of layers (of four) that a step and a validation batch still run.
SECOND_PASS = {
    'last': 4,
    'early': 4,
    'late': 2,
    'dense late': 2,
    'linear probe': 0,
    'lite': 4,
    'coarse late': 4,
}


class Watch(Hook):
    """Records the losses and the work of every step."""

    def __init__(self) -> None:
        self.losses, self.labels, self.layers, self.calls = [], [], [], 0

    def before_train(self, runner) -> None:
        for layer in runner.model.backbone.layers:
            assert isinstance(layer, TransformerEncoderLayer)
            layer.register_forward_hook(self.count)

    def count(self, *args) -> None:
        self.calls += 1

    def before_train_iter(self, runner, batch_idx, data_batch) -> None:
        self.calls = 0
        self.labels += [sample.gt_label.item() for sample in data_batch['data_samples']]

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        self.losses.append(outputs['loss'].item())
        self.layers.append(self.calls)


@pytest.fixture
def images(tmp_path):
    """Seven images of two classes, a folder for each."""
    rng = np.random.default_rng(0)
    for number in range(7):
        path = tmp_path / 'images' / 'ab'[number % 2] / f'{number}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20, 18, 3), dtype=np.uint8)).save(path)
    return tmp_path / 'images'


@pytest.fixture
def job(steered_config, images, tmp_path):
    """Config of 20 steps on the images: ``job(method, cache)``."""

    def make(method='last', cache=None, *transforms, **changes):
        backbone = {**METHODS[method], 'drop_path_rate': 0.2}
        if not changes.get('by_epoch'):
            changes.setdefault('train_cfg__max_iters', 20)
        cfg = steered_config(
            tmp_path / 'work', dict(type='toast_mm.MeanTokenInitHook'), backbone=backbone, **changes
        )
        if METHODS[method].get('feedback_from', 'last') is None:
            cfg.custom_hooks.pop()
        cfg.train_dataloader.dataset = ConfigDict(
            type='CustomDataset',
            _scope_='mmpretrain',
            data_root=str(images),
            pipeline=[
                dict(type='toast_mm.SeedAugmentation'),
                dict(type='LoadImageFromFile'),
                dict(type='Resize', scale=(16, 16)),
                *transforms,
                dict(type='PackInputs'),
            ],
        )
        if cache is not None:
            cfg.first_pass_cache = {'folder': str(tmp_path / 'cache'), 'dtype': 'float32', **cache}
        return cfg

    return make


def caches(tmp_path):
    return sorted(path for path in (tmp_path / 'cache').glob('*') if path.is_dir())


@pytest.mark.parametrize('method', METHODS)
def test_losses_are_those_without(job, run, method):
    watches = []
    for cache in (None, {}):
        watches.append(Watch())
        run(job(method, cache), watches[-1])
    without, cached = watches
    assert cached.labels == without.labels and len(cached.losses) == 20
    assert np.ptp(without.losses) > 0.05  # it learns
    assert cached.losses == pytest.approx(without.losses, rel=1e-5, abs=1e-6)
    assert cached.layers == [SECOND_PASS[method]] * 20
    assert min(without.layers) > SECOND_PASS[method]


def test_half_precision_is_close_and_half_as_large(job, run, tmp_path):
    losses = {}
    for dtype in ('float32', 'float16'):
        watch = Watch()
        run(job('last', {'dtype': dtype}), watch)
        losses[dtype] = watch.losses
    assert losses['float16'] == pytest.approx(losses['float32'], abs=2e-3)
    assert losses['float16'] != losses['float32']
    sizes = sorted((folder / '3.npy').stat().st_size for folder in caches(tmp_path))
    tokens = 7 * 5 * 16
    assert [size - 128 for size in sizes] == [tokens * 2, tokens * 4]


def test_other_runs_find_it(job, run, tmp_path, monkeypatch, capsys):
    run(job('last', {}))
    (folder,) = caches(tmp_path)
    changed = (folder / '3.npy').stat().st_mtime_ns
    cfg = job('last', {}, optim_wrapper__optimizer=dict(type='SGD', lr=0.5))
    cfg.model.backbone.update(drop_path_rate=0.0, token_selection=False)
    cfg.train_dataloader.dataset.pipeline.pop(0)
    cfg.log_level = 'INFO'
    cfg.train_dataloader.sampler = dict(type='InfiniteSampler')
    run(cfg)
    assert f'First pass of the train data: found in {folder}' in capsys.readouterr().out
    assert caches(tmp_path) == [folder]
    assert (folder / '3.npy').stat().st_mtime_ns == changed


def change_image(cfg, images):
    path = next(images.rglob('*.png'))
    stat = path.stat()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))


def add_image(cfg, images):
    Image.new('RGB', (18, 20)).save(images / 'a' / 'new.png')


def change_resolution(cfg, images):
    cfg.train_dataloader.dataset.pipeline[2].interpolation = 'nearest'


def change_preprocessing(cfg, images):
    cfg.model.data_preprocessor.std = [1.0, 2.0, 3.0]


def change_weights(cfg, images):
    cfg.randomness.seed = 8


def change_route(cfg, images):
    cfg.model.backbone.feedback_from = 3


CHANGES = [
    change_image,
    add_image,
    change_resolution,
    change_preprocessing,
    change_weights,
    change_route,
]


@pytest.mark.parametrize('change', CHANGES)
def test_a_stale_one_is_not_used(job, run, images, tmp_path, change):
    """The base has no checkpoint here: the seed determines its weights."""
    run(job('last', {}, train_cfg__max_iters=1))
    cfg = job('last', {}, train_cfg__max_iters=1)
    change(cfg, images)
    run(cfg)
    assert len(caches(tmp_path)) == 2


def test_images_are_not_decoded_again(job, run, images):
    cfg = job('last', {}, train_cfg__max_iters=1)
    run(cfg)
    for path in images.rglob('*.png'):  # same size, same time: the key stays
        stat = path.stat()
        path.write_bytes(b'x' * stat.st_size)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    cfg = job('last', {}, train_cfg__max_iters=4)
    cfg.custom_hooks.pop()  # computes the mean token of the images
    watch = Watch()
    run(cfg, watch)
    assert len(watch.losses) == 4


def test_validation_data(job, run, tmp_path):
    results = []
    for cache in (None, {}, {'val': False}):
        cfg = job('last', cache, by_epoch=True, train_cfg__max_epochs=2)
        cfg.val_cfg = dict()
        cfg.val_dataloader = dict(
            batch_size=3,
            num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=False),
            dataset=dict(
                cfg.train_dataloader.dataset, pipeline=cfg.train_dataloader.dataset.pipeline[1:]
            ),
        )
        cfg.val_evaluator = dict(type='Accuracy', _scope_='mmpretrain', topk=1)
        cfg.train_cfg.val_interval = 1
        runner = run(cfg)
        results.append(runner.message_hub.get_scalar('val/accuracy/top1').data[0])
    assert (results[0] == results[1]).all() and (results[0] == results[2]).all()
    assert len(caches(tmp_path)) == 1  # the same images


def test_data_sets_behind_wrappers(job, run, images, tmp_path):
    losses = []
    for cache in (None, {}):
        cfg = job('last', cache)
        leaf = cfg.train_dataloader.dataset
        other = dict(leaf, data_root=str(images / '..' / 'other'))
        for name in 'ab':
            (tmp_path / 'other' / name).mkdir(parents=True, exist_ok=True)
            Image.new('RGB', (9, 9), (200, 9, 9)).save(tmp_path / 'other' / name / 'x.png')
        cfg.train_dataloader.dataset = dict(
            type='ConcatDataset',
            datasets=[leaf, dict(type='RepeatDataset', times=2, dataset=other)],
        )
        watch = Watch()
        run(cfg, watch)
        losses.append(watch.losses)
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert len(caches(tmp_path)) == 2


RANDOM = [
    (dict(type='RandomFlip', prob=0.5), 'RandomFlip is random'),
    (dict(type='ColorJitter', brightness=0.4), 'ColorJitter is random'),
]


@pytest.mark.parametrize(('transform', 'message'), RANDOM)
def test_random_augmentation_is_refused(job, run, tmp_path, transform, message):
    with pytest.raises(ValueError, match=f'first_pass_cache: {message}'):
        run(job('last', {}, transform))
    assert not caches(tmp_path)


def test_mixed_images_are_refused(job, run):
    cfg = job('last', {})
    cfg.model.train_cfg = dict(augments=dict(type='Mixup', alpha=0.8))
    cfg.model.data_preprocessor.num_classes = 2
    with pytest.raises(ValueError, match='mixes images at random'):
        run(cfg)


def test_a_first_pass_that_trains_is_refused(job, run):
    cfg = job('last', {})
    cfg.model.backbone.frozen = False
    with pytest.raises(ValueError, match=r'cls_token and \d+ other parameters of the first pass'):
        run(cfg)


def test_another_backbone_is_refused(job, run):
    cfg = job('last', {})
    cfg.custom_hooks.pop()
    cfg.model.backbone = dict(
        type='VisionTransformer', arch=cfg.model.backbone.arch, img_size=16, patch_size=8
    )
    with pytest.raises(ValueError, match='VisionTransformer has no first pass'):
        run(cfg)


def test_images_of_several_sizes_are_refused(job, run, tmp_path):
    cfg = job('last', {})
    cfg.train_dataloader.dataset.pipeline[2] = dict(type='ResizeEdge', scale=16, edge='short')
    Image.new('RGB', (40, 20)).save(tmp_path / 'images' / 'a' / '0.png')
    with pytest.raises(ValueError, match=r'images of \[\(17, 16\), \(16, 32\)\]|images of \[\(16'):
        run(cfg)
    assert not caches(tmp_path)


def test_wrong_precision(job, run):
    with pytest.raises(ValueError, match="dtype='int8' must be 'float16' or 'float32'"):
        run(job('last', {'dtype': 'int8'}))


def test_values_beyond_half_precision(job, run, tmp_path, monkeypatch):
    from toast_mm.models import TOASTViT

    plain = TOASTViT.run_first_pass

    def large(self, image, **kwargs):
        first = plain(self, image, **kwargs)
        first.streams = {block: 1e6 * stream for block, stream in first.streams.items()}
        return first

    monkeypatch.setattr(TOASTViT, 'run_first_pass', large)
    with pytest.raises(ValueError, match=r"set first_pass_cache\.dtype='float32'"):
        cfg = job('last', {'dtype': 'float16'})
        cfg.custom_hooks.pop()
        run(cfg)
    assert not caches(tmp_path)


def test_a_full_disk(job, run, tmp_path, monkeypatch):
    monkeypatch.setattr('shutil.disk_usage', lambda path: Usage())
    with pytest.raises(WriteError, match=r'cannot be cached in .*MiB are needed, 0.0 MiB are free'):
        run(job('last', {}))
    assert not caches(tmp_path)


class Usage:
    free = 10


@pytest.mark.parametrize('log_level', ['INFO', 'ERROR'])  # this of a sweep
def test_the_size_is_logged_before(job, run, tmp_path, capsys, log_level):
    run(job('last', {}, log_level=log_level))
    (folder,) = caches(tmp_path)
    told = re.search(r'computing ([\d.]+) MiB in (\S+)', capsys.readouterr().out)
    written = sum((folder / name).stat().st_size for name in ('3.npy', 'image.npy'))
    assert told[2] == str(folder)
    assert float(told[1]) == pytest.approx(written / 2**20, abs=0.06)


def test_an_interruption_leaves_nothing(job, run, tmp_path, monkeypatch):
    from toast_mm.models import TOASTViT

    plain = TOASTViT.run_first_pass
    calls = []

    def interrupted(self, image, **kwargs):
        calls.append(image)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return plain(self, image, **kwargs)

    monkeypatch.setattr(TOASTViT, 'run_first_pass', interrupted)
    cfg = job('last', {})
    cfg.custom_hooks.pop()
    with pytest.raises(KeyboardInterrupt):
        run(cfg)
    assert not caches(tmp_path)

    monkeypatch.setattr(TOASTViT, 'run_first_pass', plain)
    watch = Watch()
    run(job('last', {}), watch)
    (folder,) = caches(tmp_path)
    killed = folder.with_name(f'{folder.name}.partial')  # by a signal that cannot be caught
    folder.rename(killed)
    (killed / 'meta.json').unlink()
    again = Watch()
    run(job('last', {}), again)
    assert caches(tmp_path) == [folder]
    assert again.losses == watch.losses


def test_streams_are_those_of_the_images(job, run, tmp_path):
    """The cached tokens, against mmpretrain's ViT with the same weights."""
    from mmpretrain.models import VisionTransformer
    from toy_images import MEAN, SIZES, STD

    cfg = job('last', {})
    runner = run(cfg)
    (folder,) = caches(tmp_path)
    vit = VisionTransformer(**SIZES, out_type='raw', final_norm=False)
    vit.eval()
    state = runner.model.backbone.state_dict()
    vit.load_state_dict({name: state[name] for name in vit.state_dict()})
    cached = np.load(folder / '3.npy')
    pixels = np.load(folder / 'image.npy')
    dataset = runner.train_dataloader.dataset
    for index in range(7):
        image = Image.open(dataset.get_data_info(index)['img_path'])
        rgb = torch.from_numpy(pixels[index]).flip(0).float()
        assert abs(rgb.mean() - np.asarray(image).mean()) < 8
        mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
        with torch.no_grad():
            expected = vit(((rgb - mean) / std)[None])[0][0]
        torch.testing.assert_close(torch.from_numpy(cached[index]), expected)


def test_a_file_in_the_place_of_the_folder(job, run, tmp_path):
    (tmp_path / 'cache').write_text('in the way')
    with pytest.raises(WriteError, match=r'first_pass_cache: .*cache is not a folder'):
        run(job(cache={}))


@pytest.mark.parametrize('part', ['cache', 'lock'])
def test_something_in_the_place_of_a_cache(job, run, tmp_path, part):
    run(job('linear probe', {}))
    (folder,) = caches(tmp_path)
    lock = folder.with_name(f'{folder.name}.lock')
    shutil.rmtree(folder)
    lock.unlink(missing_ok=True)
    path = folder if part == 'cache' else lock
    path.write_text('mine') if part == 'cache' else path.mkdir()
    sentence = f'^first_pass_cache: {path} is in the place of the cache: remove it$'
    with pytest.raises(WriteError, match=sentence):
        run(job('linear probe', {}))
    assert path.exists()


def test_the_progress_is_shown_where_output_goes_now(job, run):
    """mmengine's bar would write to where it went when mmengine was imported."""
    output = io.StringIO()
    with redirect_stdout(output):
        run(job('linear probe', {}, log_level='ERROR'))
    assert re.search(r'4/4, .* elapsed', output.getvalue())


def test_samples_that_were_loaded_before_are_noticed(job, run, monkeypatch):
    """As with a loader that starts its workers before the training."""
    monkeypatch.setattr(ServedPipeline, '__call__', lambda served, data: Compose(plain)(data))
    plain = [
        dict(type='LoadImageFromFile'),
        dict(type='Resize', scale=(16, 16)),
        dict(type='mmpretrain.PackInputs'),
    ]
    with pytest.raises(RuntimeError, match='the train data were loaded before their first passes'):
        run(job(cache={}))
