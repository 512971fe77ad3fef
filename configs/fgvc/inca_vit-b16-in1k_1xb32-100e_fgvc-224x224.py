"""FGVC on ViT-B/16 (ImageNet-1k): InCA, adapters on four layers.

To predict by the best layer in place of all, set predict='best', toast_mm.BestLayerHook and
toast_mm.LayerAccuracy.
"""

_base_ = './toast-last_vit-b16-in1k_1xb32-100e_fgvc-224x224.py'

model = dict(
    backbone=dict(feedback_from=None, out_type='raw', out_indices=[-4, -3, -2, -1]),
    head=dict(
        type='toast_mm.InCAHead',
        num_layers=4,
        predict='ensemble',
        init_cfg=None,  # that of a linear head is not for attention
    ),
)
optim_wrapper = dict(optimizer=dict(_delete_=True, type='AdamW', lr=1e-3, weight_decay=1e-4))
