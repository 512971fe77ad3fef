"""Pipelines and loaders of segmentation with 512 x 512 crops; a data set adds its files."""

crop_size = (512, 512)
scale = (2048, 512)

train_pipeline = [
    dict(type='toast_mm.SeedAugmentation'),
    dict(type='toast_mm.LoadImageFromFile'),
    dict(type='toast_mm.LoadAnnotations'),
    dict(type='RandomResize', scale=scale, ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='mmseg.RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    dict(type='mmseg.RandomFlip', prob=0.5),
    dict(type='mmseg.PhotoMetricDistortion'),
    dict(type='mmseg.PackSegInputs'),
]
# mmseg's inferencer looks for LoadImageFromFile by this name.
test_pipeline = [
    dict(type='LoadImageFromFile', _scope_='toast_mm'),
    dict(type='mmseg.Resize', scale=scale, keep_ratio=True),
    dict(type='toast_mm.LoadAnnotations'),  # after Resize: the mask keeps its size
    dict(type='mmseg.PackSegInputs'),
]
tta_pipeline = [
    dict(type='toast_mm.LoadImageFromFile'),
    dict(
        type='TestTimeAug',
        transforms=[
            [
                dict(type='mmseg.Resize', scale_factor=ratio, keep_ratio=True)
                for ratio in (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
            ],
            [
                dict(type='mmseg.RandomFlip', prob=0.0, direction='horizontal'),
                dict(type='mmseg.RandomFlip', prob=1.0, direction='horizontal'),
            ],
            [dict(type='toast_mm.LoadAnnotations')],
            [dict(type='mmseg.PackSegInputs')],
        ],
    ),
]

train_dataloader = dict(
    batch_size=2,  # on 8 GPUs: 16 images per batch
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='toast_mm.InfiniteSampler', shuffle=True),
    dataset=dict(pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='mmengine.DefaultSampler', shuffle=False),
    dataset=dict(pipeline=test_pipeline),
)
test_dataloader = val_dataloader

val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
