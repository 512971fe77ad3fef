"""ADE20K (ADEChallengeData2016): label 0 is "other" and ignored, 1..150 become 0..149."""

_base_ = './segmentation_512x512.py'

num_classes = 150
_data = dict(type='ADE20KDataset', data_root='data/ade/ADEChallengeData2016')

train_dataloader = dict(
    dataset=dict(
        **_data,
        data_prefix=dict(img_path='images/training', seg_map_path='annotations/training'),
    )
)
val_dataloader = dict(
    dataset=dict(
        **_data,
        data_prefix=dict(img_path='images/validation', seg_map_path='annotations/validation'),
    )
)
test_dataloader = val_dataloader
