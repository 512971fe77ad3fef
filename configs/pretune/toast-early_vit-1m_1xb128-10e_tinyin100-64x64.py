"""Pre-tuning the small ViT on its own training data, feedback from the middle layer.

python tools/train.py configs/pretune/toast-early_vit-1m_1xb128-10e_tinyin100-64x64.py
"""

_base_ = './toast-last_vit-1m_1xb128-10e_tinyin100-64x64.py'

model = dict(backbone=dict(feedback_from='middle'))
