"""Control for pre-tuning: a linear probe of the small ViT, trained for as long.

python tools/train.py configs/pretune/linear_vit-1m_1xb128-10e_tinyin100-64x64.py
"""

_base_ = [
    '../_base_/models/toast-vit-1m-tinyin100.py',
    '../_base_/datasets/tinyin100_64x64.py',
    '../_base_/schedules/pretune_10e.py',
    '../_base_/classification_runtime.py',
]

model = dict(
    backbone=dict(feedback_from=None),
    # The head starts with the weights from the training of the base.
    head=dict(init_cfg=dict(_base_.model.backbone.init_cfg, prefix='head.')),
)
