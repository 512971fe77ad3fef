"""Jobs of seconds for reliability.py and long_run.py: steered classifiers on generated images."""

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
_load = [dict(type='LoadImageFromFile')]
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


def write_images(folder: Path) -> None:
    """Write 24 images to train on and 8 to validate on, of two classes that differ in colour."""
    rng = np.random.default_rng(0)
    for split, number in (('train', 24), ('val', 8)):
        for index in range(number):
            pixels = rng.integers(0, 200, (16, 16, 3), dtype=np.uint8)
            pixels[..., index % 2] += 40
            path = folder / split / f'class_{index % 2}' / f'{index:02}.png'
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)


def write_config(kind: str, images: Path, folder: Path) -> Path:
    """Write the config of a job.

    Args:
        kind: ``'training'`` of 24 iterations in 4 epochs, with a checkpoint and a validation after
            each; ``'cache'``, a training of one epoch on cached first passes; or ``'sweep'``, four
            trainings of one epoch.
        images: Folder of :func:`write_images`.
        folder: Folder of the config and of the caches.

    Returns:
        The config file.
    """
    text = _CONFIG.format(
        root=ROOT,
        images=images,
        augmentation='[]' if kind == 'cache' else _AUGMENTATION,
        epochs=EPOCHS if kind == 'training' else 1,
    )
    text += {'training': '', 'cache': _CACHE, 'sweep': _SEARCH}[kind].format(
        images=images, folder=folder
    )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f'{kind}.py'
    path.write_text(text)
    return path
