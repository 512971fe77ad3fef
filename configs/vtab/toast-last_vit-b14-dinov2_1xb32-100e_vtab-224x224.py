"""VTAB-1k on ViT-B/14 (DINOv2): TOAST, feedback from the last layer."""

_base_ = [
    '../_base_/models/toast-vit-b14-dinov2.py',
    '../_base_/datasets/vtab_224.py',
    '../_base_/schedules/transfer_100e.py',
    '../_base_/classification_runtime.py',
]

model = dict(
    data_preprocessor=dict(num_classes=_base_.num_classes),
    head=dict(num_classes=_base_.num_classes),
)
optim_wrapper = dict(optimizer=dict(lr=0.1, weight_decay=1e-4))  # without a search
