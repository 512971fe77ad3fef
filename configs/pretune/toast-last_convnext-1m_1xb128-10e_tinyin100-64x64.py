"""Pre-tuning the small ConvNeXt on its own training data, feedback from the last layer.

python tools/train.py configs/pretune/toast-last_convnext-1m_1xb128-10e_tinyin100-64x64.py
"""

_base_ = [
    '../_base_/models/toast-convnext-1m-tinyin100.py',
    '../_base_/datasets/tinyin100_64x64.py',
    '../_base_/schedules/pretune_10e.py',
    '../_base_/pretune_runtime.py',
]

model = dict(
    type='toast_mm.PretuneClassifier',
    variational_weight=0.03,
    both_passes=False,
    # The head starts with the weights from the training of the base.
    head=dict(init_cfg=dict(_base_.model.backbone.init_cfg, prefix='head.')),
)
channels_last = True
custom_hooks = [*_base_.custom_hooks, dict(type='toast_mm.MeanTokenInitHook')]
