"""Linear probe of the small ConvNeXt on classes that it has not seen."""

_base_ = [
    '../_base_/models/toast-convnext-1m-tinyin100.py',
    '../_base_/datasets/novel20_64x64.py',
    '../_base_/schedules/small_20e.py',
    '../_base_/classification_runtime.py',
]

model = dict(
    data_preprocessor=dict(num_classes=_base_.num_classes),
    backbone=dict(feedback_from=None),
    head=dict(num_classes=_base_.num_classes),
)
optim_wrapper = dict(optimizer=dict(lr=1e-2))
