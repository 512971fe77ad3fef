"""25 species of birds on the small ConvNeXt: a head alone."""

_base_ = [
    '../_base_/backbones/convnext-1m_tinyin100.py',
    '../_base_/methods/linear.py',
    '../_base_/models/convnext_classifier.py',
    '../_base_/datasets/cub25_64x64.py',
    '../_base_/schedules/small_20e.py',
    '../_base_/classification_runtime.py',
]

model = dict(
    data_preprocessor=dict(**_base_.preprocessing, num_classes=_base_.num_classes),
    backbone=dict(_base_.backbone, **_base_.method),
    head=dict(in_channels=_base_.embed_dims, num_classes=_base_.num_classes, **_base_.method_head),
)
