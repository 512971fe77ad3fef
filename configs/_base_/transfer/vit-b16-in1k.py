"""Transfer by the published recipe: ViT-B/16 (ImageNet-1k); a job adds method and data."""

_base_ = [
    '../backbones/vit-b16_in1k.py',
    '../models/vit_classifier.py',
    '../schedules/transfer_100e.py',
    '../classification_runtime.py',
]

model = dict(
    data_preprocessor=_base_.preprocessing,
    backbone=_base_.backbone,
    head=dict(
        in_channels=_base_.embed_dims,
        loss=dict(_delete_=True, type='CrossEntropyLoss'),
        # The bias starts at -log(99): every class at a probability of 0.01.
        init_cfg=dict(type='Kaiming', layer='Linear', mode='fan_out', bias=-4.59512),
    ),
)
