"""Fine-grained classification in the small: 25 species of birds on the small ConvNeXt."""

_base_ = [
    '../_base_/backbones/convnext-1m_tinyin100.py',
    '../_base_/methods/toast.py',
    '../_base_/models/convnext_classifier.py',
    '../_base_/datasets/cub25_64x64.py',
    '../_base_/schedules/small_20e.py',
    '../_base_/classification_runtime.py',
]

_pretuned = 'toast_mm://convnext-1m_tinyin100_toast-last.safetensors'
model = dict(
    data_preprocessor=dict(**_base_.preprocessing, num_classes=_base_.num_classes),
    backbone=dict(_base_.backbone, **_base_.method, pretuned=_pretuned),
    head=dict(in_channels=_base_.embed_dims, num_classes=_base_.num_classes, **_base_.method_head),
)
custom_hooks = [*_base_.custom_hooks, dict(type='toast_mm.MeanTokenInitHook')]
