"""First passes of whole images serve a training with random crops and flips."""

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.hooks import Hook
from PIL import Image

COARSE = dict(first_pass=dict(scale=0.5))
LOAD = dict(type='LoadImageFromFile')
SQUARE = dict(type='Resize', scale=(16, 16))
AUGMENTATION = (
    dict(type='RandomResizedCrop', scale=16, crop_ratio_range=(0.5, 1.0)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='ColorJitter', brightness=0.4),
)


class Watch(Hook):
    """Records losses, images and the layers that run in every step."""

    def __init__(self) -> None:
        self.losses, self.images, self.layers, self.sizes = [], [], [], []

    def before_train(self, runner) -> None:
        for layer in runner.model.backbone.layers:
            layer.register_forward_hook(self.count)

    def count(self, layer, args, output) -> None:
        self.sizes.append(len(output))

    def before_train_iter(self, runner, batch_idx, data_batch) -> None:
        self.sizes.clear()
        self.images.append(np.array([image.numpy() for image in data_batch['inputs']]))

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        self.losses.append(outputs['loss'].item())
        self.layers.append(list(self.sizes))


@pytest.fixture
def images(tmp_path):
    """Six images of two classes: a bright spot is on the left or on the right."""
    rng = np.random.default_rng(0)
    for number in range(6):
        path = tmp_path / 'images' / 'ab'[number % 2] / f'{number}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        image = rng.integers(0, 100, (16, 16, 3), dtype=np.uint8)
        image[4:12, 2 + 8 * (number % 2) :][:, :5] += 150
        Image.fromarray(image).save(path)
    return tmp_path / 'images'


@pytest.fixture
def job(steered_config, images, tmp_path):
    """Config of 12 steps of two images: ``job(transforms, cache)``."""

    def make(*transforms, cache=None, backbone=COARSE, **changes):
        changes = dict(train_cfg__max_iters=12) | changes
        backbone = dict(backbone, drop_path_rate=0.2)
        cfg = steered_config(tmp_path / 'work', backbone=backbone, **changes)
        cfg.train_dataloader.dataset = ConfigDict(
            type='CustomDataset',
            _scope_='mmpretrain',
            data_root=str(images),
            pipeline=[
                dict(type='toast_mm.SeedAugmentation'),
                LOAD,
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


def test_without_augmentation_it_is_exact(job, run, tmp_path):
    watches = []
    for cache in (None, dict(augmented=True), {}):
        watches.append(Watch())
        run(job(SQUARE, cache=cache), watches[-1])
    without, augmented, plain = watches
    assert augmented.losses == pytest.approx(without.losses, rel=1e-5)
    assert plain.losses == pytest.approx(without.losses, rel=1e-5)
    # The first step runs one image, to see the sizes of its grid.
    assert augmented.layers[0] == [1] * 4 + [2] * 4
    assert augmented.layers[1:] == [[2] * 4] * 11
    assert without.layers == [[2] * 8] * 12
    assert len(caches(tmp_path)) == 2  # the plain cache keeps the images as well


def test_crops_and_flips(job, run, tmp_path):
    watches = []
    for cache in (None, dict(augmented=True)):
        watches.append(Watch())
        run(job(*AUGMENTATION, cache=cache), watches[-1])
    without, augmented = watches
    np.testing.assert_array_equal(augmented.images, without.images)  # the same augmentation
    assert augmented.losses != without.losses
    assert augmented.losses == pytest.approx(without.losses, rel=0.2)
    assert augmented.layers[1:] == [[2] * 4] * 11


def test_processes_that_load_data(job, run):
    losses = []
    for number in (0, 2):
        watch = Watch()
        cfg = job(*AUGMENTATION, cache=dict(augmented=True))
        cfg.train_dataloader.num_workers = number
        cfg.train_dataloader.persistent_workers = bool(number)
        run(cfg, watch)
        losses.append(watch.losses)
    assert losses[0] == losses[1]


def test_a_resumed_training_ends_as_an_undisturbed_one(job, run, tmp_path):
    cache = dict(augmented=True)
    whole = run(job(*AUGMENTATION, cache=cache)).model.state_dict()
    saving = dict(default_hooks__checkpoint=dict(type='CheckpointHook', interval=5, by_epoch=False))
    run(job(*AUGMENTATION, cache=cache, train_cfg__max_iters=5, **saving))
    cfg = job(*AUGMENTATION, cache=cache)
    cfg.resume, cfg.load_from = True, str(tmp_path / 'work' / 'iter_5.pth')
    resumed = run(cfg).model.state_dict()
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_joined_data_sets(job, run, tmp_path):
    losses = []
    for cache in (None, dict(augmented=True)):
        cfg = job(SQUARE, cache=cache)
        leaf = cfg.train_dataloader.dataset
        half = dict(leaf, indices=3)
        cfg.train_dataloader.dataset = dict(type='ConcatDataset', datasets=[leaf, half])
        watch = Watch()
        run(cfg, watch)
        losses.append(watch.losses)
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert len(caches(tmp_path)) == 2


def test_another_seed_uses_the_same_cache(job, run, tmp_path, capsys):
    cfg = job(*AUGMENTATION, cache=dict(augmented=True), log_level='INFO')
    seeded = dict(type='Pretrained', checkpoint=str(tmp_path / 'base.pth'))
    runner = run(cfg)
    runner.save_checkpoint(str(tmp_path), 'base.pth', save_optimizer=False)
    told = capsys.readouterr().out
    assert 'resized as the images are: an approximation that does not see ColorJitter' in told
    for seed in (1, 2):
        cfg = job(*AUGMENTATION, cache=dict(augmented=True), log_level='INFO')
        cfg.model.backbone.init_cfg = dict(seeded, prefix='backbone.')
        cfg.randomness.seed = seed
        run(cfg)
    assert 'found in' in capsys.readouterr().out
    assert len(caches(tmp_path)) == 1


def test_size_of_whole_images(job, run, tmp_path):
    run(job(*AUGMENTATION, cache=dict(augmented=True, whole_size=(32, 48))))
    (folder,) = caches(tmp_path)
    # At scale 1/2, whole images have 2 x 3 patches of 8 and a class token.
    assert np.load(folder / '3.npy').shape == (6, 1 + 2 * 3, 16)
    assert not (folder / 'image.npy').exists()


def test_validation_is_exact(job, run):
    values = []
    for cache in (None, dict(augmented=True)):
        cfg = job(SQUARE, cache=cache, by_epoch=True, train_cfg__max_epochs=2)
        cfg.train_cfg.pop('max_iters', None)
        cfg.train_cfg.val_interval = 1
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
        runner = run(cfg)
        values.append(runner.message_hub.get_scalar('val/accuracy/top1').data[0])
    assert (values[0] == values[1]).all()


def test_sharp_first_pass_is_refused(job, run):
    with pytest.raises(ValueError, match=r'set model\.backbone\.first_pass=dict\(scale=0\.5\)'):
        run(job(*AUGMENTATION, cache=dict(augmented=True), backbone={}))


def test_backbone_without_feedback_is_refused(job, run):
    cfg = job(*AUGMENTATION, cache=dict(augmented=True), backbone=dict(feedback_from=None))
    with pytest.raises(ValueError, match='has to see the augmented images'):
        run(cfg)


def test_unknown_transform_is_refused(job, run, tmp_path):
    cfg = job(dict(type='RandomTranslatePad', size=20), cache=dict(augmented=True))
    with pytest.raises(ValueError, match='RandomTranslatePad moves pixels'):
        run(cfg)
    assert not caches(tmp_path)


@pytest.mark.parametrize('size', [(16,), (16, 0), (16, 16, 3)])
def test_wrong_size(job, run, size):
    with pytest.raises(ValueError, match=r'whole_size=.* must be height and width in pixels'):
        run(job(*AUGMENTATION, cache=dict(augmented=True, whole_size=size)))


def test_size_without_augmentation(job, run):
    with pytest.raises(ValueError, match='whole_size is read with augmented=True only'):
        run(job(SQUARE, cache=dict(whole_size=(16, 16))))
