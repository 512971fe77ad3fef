"""Scenes of handwritten digits, in the layout of PASCAL VOC.

tools/dataset_converters/digits.py makes these data."""

num_classes = 11
crop_size = (64, 64)

metainfo = dict(
    classes=('background', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9'),
    palette=[
        [0, 0, 0], [230, 25, 75], [60, 180, 75], [255, 225, 25], [0, 130, 200], [245, 130, 48],
        [145, 30, 180], [70, 240, 240], [240, 50, 230], [210, 245, 60], [250, 190, 212],
    ],
)  # fmt: skip

# Digits are not flipped: a mirrored 2 is not a 2.
train_pipeline = [
    dict(type='toast_mm.SeedAugmentation'),
    dict(type='toast_mm.LoadImageFromFile'),
    dict(type='toast_mm.LoadAnnotations'),
    dict(type='mmseg.PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile', _scope_='toast_mm'),
    dict(type='toast_mm.LoadAnnotations'),
    dict(type='mmseg.PackSegInputs'),
]

_dataset = dict(
    type='BaseSegDataset',
    metainfo=metainfo,
    data_root='data/digits/scenes',
    data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClass'),
    img_suffix='.jpg',
    seg_map_suffix='.png',
)
train_dataloader = dict(
    batch_size=16,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='toast_mm.InfiniteSampler', shuffle=True),
    dataset=dict(**_dataset, ann_file='ImageSets/Segmentation/train.txt', pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=50,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='mmengine.DefaultSampler', shuffle=False),
    dataset=dict(**_dataset, ann_file='ImageSets/Segmentation/val.txt', pipeline=test_pipeline),
)
test_dataloader = dict(
    batch_size=50,
    num_workers=1,
    sampler=dict(type='mmengine.DefaultSampler', shuffle=False),
    dataset=dict(**_dataset, ann_file='ImageSets/Segmentation/test.txt', pipeline=test_pipeline),
)

val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
