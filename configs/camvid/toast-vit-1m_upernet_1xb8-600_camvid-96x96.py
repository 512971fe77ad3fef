"""CamVid on a CPU: UPerNet of 64 channels on the small ViT, steered from its middle layer."""

_base_ = [
    '../_base_/models/upernet_toast-vit-1m-tinyin100.py',
    '../_base_/datasets/camvid_96x96.py',
    '../_base_/schedules/segmentation_600.py',
    '../_base_/segmentation_runtime.py',
]

model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    backbone=dict(pretuned='toast_mm://vit-1m_tinyin100_toast-early.safetensors'),
    decode_head=dict(channels=64, num_classes=_base_.num_classes),
    auxiliary_head=dict(channels=64, num_classes=_base_.num_classes),
)

custom_hooks = [*_base_.custom_hooks, dict(type='toast_mm.MeanTokenInitHook')]
