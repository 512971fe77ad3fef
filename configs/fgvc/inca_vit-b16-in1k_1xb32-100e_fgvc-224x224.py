"""FGVC on ViT-B/16 (ImageNet-1k): InCA, adapters on four layers.

To predict with the best layer instead of all, set predict='best', toast_mm.BestLayerHook and
toast_mm.LayerAccuracy.
"""

_base_ = './toast-last_vit-b16-in1k_1xb32-100e_fgvc-224x224.py'

model = dict(
    backbone=dict(feedback_from=None, out_type='raw', out_indices=[-4, -3, -2, -1]),
    head=dict(
        type='toast_mm.InCAHead',
        num_layers=4,
        predict='ensemble',
        init_cfg=None,  # the initialisation of a linear head does not fit attention
    ),
)
optim_wrapper = dict(optimizer=dict(_delete_=True, type='AdamW', lr=1e-3, weight_decay=1e-4))
