"""PASCAL VOC 2012 with the augmented training annotations of SBD: 20 classes and background."""

_base_ = './segmentation_512x512.py'

num_classes = 21
_data = dict(type='PascalVOCDataset', data_root='data/VOCdevkit/VOC2012')

train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='ConcatDataset',
        datasets=[
            dict(
                **_data,
                data_prefix=dict(img_path='JPEGImages', seg_map_path=annotations),
                ann_file=f'ImageSets/Segmentation/{split}.txt',
                pipeline=_base_.train_pipeline,
            )
            for split, annotations in (
                ('train', 'SegmentationClass'),
                ('aug', 'SegmentationClassAug'),
            )
        ],
    )
)
val_dataloader = dict(
    dataset=dict(
        **_data,
        data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClass'),
        ann_file='ImageSets/Segmentation/val.txt',
    )
)
test_dataloader = val_dataloader
