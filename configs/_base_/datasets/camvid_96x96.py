"""CamVid street scenes at 240 x 180: an example of your own data, in the layout of PASCAL VOC.

Images in JPEGImages/*.jpg, masks (label = class, 255 = void) in
SegmentationClass/*.png, names in ImageSets/Segmentation/{train,val,test}.txt.
"""

num_classes = 11
crop_size = (96, 96)
scale = (240, 180)

# For sweeps, of CamVid only. They choose by one video, which they do not train on: val.txt shares a
# video with train.txt.
search = dict(
    lr=[3e-4, 1e-3, 3e-3],
    weight_decay=[0.01],
    seeds=[1, 2, 3],
    metric='mIoU',
    held_out={
        'train_dataloader.dataset.indices': [*range(62), *range(163, 367)],
        'val_dataloader.dataset.ann_file': 'ImageSets/Segmentation/train.txt',
        'val_dataloader.dataset.indices': list(range(62, 163)),  # 0006R0
    },
)

metainfo = dict(
    classes=(
        'Sky', 'Building', 'Pole', 'Road', 'Pavement', 'Tree', 'SignSymbol', 'Fence', 'Car',
        'Pedestrian', 'Bicyclist',
    ),
    palette=[
        [128, 128, 128], [128, 0, 0], [192, 192, 128], [128, 64, 128], [60, 40, 222],
        [128, 128, 0], [192, 128, 128], [64, 64, 128], [64, 0, 128], [64, 64, 0], [0, 128, 192],
    ],
)  # fmt: skip

train_pipeline = [
    dict(type='toast_mm.SeedAugmentation'),
    dict(type='toast_mm.LoadImageFromFile'),
    dict(type='toast_mm.LoadAnnotations'),
    dict(type='RandomResize', scale=scale, ratio_range=(0.75, 1.5), keep_ratio=True),
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
                for ratio in (0.75, 1.0)
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

_dataset = dict(
    type='BaseSegDataset',
    metainfo=metainfo,
    data_root='data/camvid240',
    data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClass'),
    img_suffix='.jpg',
    seg_map_suffix='.png',
)
train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='toast_mm.InfiniteSampler', shuffle=True),
    dataset=dict(**_dataset, ann_file='ImageSets/Segmentation/train.txt', pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='mmengine.DefaultSampler', shuffle=False),
    dataset=dict(**_dataset, ann_file='ImageSets/Segmentation/val.txt', pipeline=test_pipeline),
)
test_dataloader = dict(
    batch_size=1,
    num_workers=1,
    sampler=dict(type='mmengine.DefaultSampler', shuffle=False),
    dataset=dict(**_dataset, ann_file='ImageSets/Segmentation/test.txt', pipeline=test_pipeline),
)

val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
