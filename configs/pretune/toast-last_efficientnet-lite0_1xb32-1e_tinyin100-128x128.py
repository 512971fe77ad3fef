"""Pre-tuning EfficientNet-Lite0 on enlarged images of Tiny-ImageNet, feedback from the last block.

python tools/train.py configs/pretune/toast-last_efficientnet-lite0_1xb32-1e_tinyin100-128x128.py
"""

_base_ = [
    '../_base_/models/toast-efficientnet-lite0-in1k.py',
    '../_base_/datasets/tinyin100_128x128.py',
    '../_base_/schedules/pretune_1e.py',
    '../_base_/pretune_runtime.py',
]

model = dict(
    type='toast_mm.PretuneClassifier',
    variational_weight=0.03,
    both_passes=False,
    data_preprocessor=dict(num_classes=_base_.num_classes),
    head=dict(num_classes=_base_.num_classes),
)
channels_last = True
custom_hooks = [*_base_.custom_hooks, dict(type='toast_mm.MeanTokenInitHook')]
