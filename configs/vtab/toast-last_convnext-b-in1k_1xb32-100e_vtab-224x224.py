"""VTAB-1k on ConvNeXt-B (ImageNet-1k): TOAST, feedback from the last layer."""

_base_ = [
    '../_base_/models/toast-convnext-b-in1k.py',
    '../_base_/datasets/vtab_224.py',
    '../_base_/schedules/transfer_100e.py',
    '../_base_/classification_runtime.py',
]

model = dict(
    data_preprocessor=dict(num_classes=_base_.num_classes),
    head=dict(num_classes=_base_.num_classes),
)
optim_wrapper = dict(optimizer=dict(lr=0.1, weight_decay=1e-4))  # without a search
