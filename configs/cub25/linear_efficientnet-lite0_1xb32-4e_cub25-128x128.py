"""25 species of birds on EfficientNet-Lite0: linear probe."""

_base_ = [
    '../_base_/models/toast-efficientnet-lite0-in1k.py',
    '../_base_/datasets/cub25_128x128.py',
    '../_base_/schedules/small_4e.py',
    '../_base_/classification_runtime.py',
]

model = dict(
    data_preprocessor=dict(num_classes=_base_.num_classes),
    backbone=dict(feedback_from=None),
    head=dict(num_classes=_base_.num_classes),
)
optim_wrapper = dict(optimizer=dict(lr=3e-3))
randomness = dict(seed=1)  # the first of the search
channels_last = True
first_pass_cache = True
