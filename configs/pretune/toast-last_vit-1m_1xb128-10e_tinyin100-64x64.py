"""Pre-tuning the small ViT on its own training data, feedback from the last layer.

python tools/train.py configs/pretune/toast-last_vit-1m_1xb128-10e_tinyin100-64x64.py
"""

_base_ = './linear_vit-1m_1xb128-10e_tinyin100-64x64.py'

model = dict(
    type='toast_mm.PretuneClassifier',
    variational_weight=0.03,
    both_passes=False,
    backbone=dict(feedback_from='last'),
)
custom_hooks = [
    *_base_.custom_hooks,
    dict(type='toast_mm.PretunedHook'),
    dict(type='toast_mm.MeanTokenInitHook'),
]
