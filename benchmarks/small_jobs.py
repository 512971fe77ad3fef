"""Jobs of seconds for reliability.py, long_run.py and bad_inputs.py, on generated images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
EPOCHS = 4

_CONFIG = """
_base_ = '{root}/configs/_base_/classification_runtime.py'

model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='toast_mm.TOASTViT',
        arch=dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32),
        img_size=16,
        patch_size=8,
        drop_path_rate=0.2,
    ),
    head=dict(type='VisionTransformerClsHead', num_classes=2, in_channels=16),
    data_preprocessor=dict(num_classes=2, mean=[127.5] * 3, std=[127.5] * 3, to_rgb=True),
)
_load = [dict(type='toast_mm.LoadImageFromFile')]
_pack = [dict(type='PackInputs')]
_loader = dict(batch_size=4, num_workers=0)
train_dataloader = dict(
    **_loader,
    sampler=dict(type='toast_mm.DefaultSampler', shuffle=True),
    dataset=dict(
        type='CustomDataset',
        data_root='{images}/train',
        pipeline=[dict(type='toast_mm.SeedAugmentation'), *_load, *{augmentation}, *_pack],
    ),
)
val_dataloader = dict(
    **_loader,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='CustomDataset', data_root='{images}/val', pipeline=[*_load, *_pack]),
)
test_dataloader = val_dataloader
val_evaluator = [dict(type='Accuracy'), dict(type='AveragePrecision')]
test_evaluator = val_evaluator
train_cfg = dict(by_epoch=True, max_epochs={epochs})
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(
    constructor='toast_mm.TunedOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=0.01, weight_decay=0.01),
)
param_scheduler = dict(type='CosineAnnealingLR', by_epoch=False, T_max={epochs} * 6)
default_hooks = dict(
    logger=dict(interval=2),
    checkpoint=dict(max_keep_ckpts=2, save_best='accuracy/top1', rule='greater'),
)
"""
_AUGMENTATION = """[
    dict(type='RandomCrop', crop_size=16, padding=2),
    dict(type='RandomFlip', prob=0.5),
]"""
_CACHE = "first_pass_cache = dict(folder='{folder}/caches')\n"
_SEARCH = """
_images = '{images}/train'
search = dict(
    lr=[0.1, 0.01],
    weight_decay=[0.0],
    seeds=[3, 4],
    held_out={{
        'train_dataloader.dataset.indices': list(range(0, 24, 2)),
        'val_dataloader.dataset.data_root': _images,
        'val_dataloader.dataset.indices': list(range(1, 24, 2)),
    }},
)
"""


_SEGMENTATION = """
_base_ = '{root}/configs/_base_/default_runtime.py'

default_scope = 'mmseg'
model = dict(
    type='EncoderDecoder',
    backbone=dict(
        type='toast_mm.TOASTViT',
        arch=dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32),
        img_size=16,
        patch_size=8,
        out_type='featmap',
    ),
    decode_head=dict(
        type='FCNHead', in_channels=16, channels=8, num_convs=1, concat_input=False, num_classes=3
    ),
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[127.5] * 3,
        std=[127.5] * 3,
        bgr_to_rgb=True,
        size=(16, 16),
    ),
    test_cfg=dict(mode='whole'),
)
_load = [dict(type='toast_mm.LoadImageFromFile'), dict(type='toast_mm.LoadAnnotations')]
_loader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type='toast_mm.DefaultSampler', shuffle=False),
)
_dataset = dict(
    type='BaseSegDataset',
    img_suffix='.png',
    seg_map_suffix='.png',
    metainfo=dict(classes=('wall', 'door', 'sign')),
    pipeline=[*_load, dict(type='PackSegInputs')],
)
train_dataloader = dict(
    **_loader,
    dataset=dict(
        **_dataset,
        data_prefix=dict(img_path='{images}/images/train', seg_map_path='{images}/masks/train'),
    ),
)
train_cfg = dict(by_epoch=True, max_epochs=1)
optim_wrapper = dict(
    constructor='toast_mm.TunedOptimWrapperConstructor', optimizer=dict(type='SGD', lr=0.01)
)
"""


def write_masks(folder: Path) -> None:
    """Write 8 images to train on with masks of three classes, in stripes."""
    rng = np.random.default_rng(0)
    for part in ('images', 'masks'):
        (folder / part / 'train').mkdir(parents=True)
    for index in range(8):
        pixels = rng.integers(0, 200, (16, 16, 3), dtype=np.uint8)
        mask = np.repeat(np.arange(16, dtype=np.uint8) * 3 // 16, 16).reshape(16, 16)
        pixels[..., 0] += mask * 20
        Image.fromarray(pixels).save(folder / f'images/train/{index:02}.png')
        Image.fromarray(mask).save(folder / f'masks/train/{index:02}.png')


def write_images(folder: Path, train: int = 24, val: int = 8, size: int = 16) -> None:
    """Write images to train and to validate on, of two classes that differ in colour."""
    rng = np.random.default_rng(0)
    for split, number in (('train', train), ('val', val)):
        for index in range(number):
            pixels = rng.integers(0, 200, (size, size, 3), dtype=np.uint8)
            pixels[..., index % 2] += 40
            path = folder / split / f'class_{index % 2}' / f'{index:02}.png'
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)


def write_config(kind: str, images: Path, folder: Path) -> Path:
    """Write the config of a job.

    Args:
        kind: ``'training'`` of 24 iterations in 4 epochs, with a checkpoint and a validation after
            each; ``'short'``, a training of one epoch without augmentation; ``'cache'``, the same
            on cached first passes; ``'sweep'``, four trainings of one epoch; or
            ``'segmentation'``, a training of one epoch.
        images: Folder of :func:`write_images`, or for segmentation of :func:`write_masks`.
        folder: Folder of the config and of the caches.

    Returns:
        The config file.
    """
    text = (_SEGMENTATION if kind == 'segmentation' else _CONFIG).format(
        root=ROOT,
        images=images,
        augmentation='[]' if kind in ('cache', 'short') else _AUGMENTATION,
        epochs=EPOCHS if kind == 'training' else 1,
    )
    text += {'cache': _CACHE, 'sweep': _SEARCH}.get(kind, '').format(images=images, folder=folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f'{kind}.py'
    path.write_text(text)
    return path
