"""PASCAL VOC: InCA's dense form on four maps of a frozen ViT-B/16, in place of UPerNet."""

_base_ = './toast-vit-b16_upernet_8xb2-20k_voc12aug-512x512.py'

model = dict(
    backbone=dict(feedback_from=None),
    decode_head=dict(
        _delete_=True,
        type='toast_mm.InCADecodeHead',
        in_channels=[768, 768, 768, 768],
        in_index=[0, 1, 2, 3],
        channels=256,
        num_classes=_base_.num_classes,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', loss_weight=1.0),
    ),
    auxiliary_head=None,
)
