"""FGVC on ConvNeXt-B (ImageNet-1k): InCA, adapters on the four stages."""

_base_ = './toast-last_convnext-b-in1k_1xb32-100e_fgvc-224x224.py'

model = dict(
    backbone=dict(feedback_from=None, gap_before_final_norm=False, out_indices=[0, 1, 2, 3]),
    head=dict(
        type='toast_mm.InCAHead',
        in_channels=[128, 256, 512, 1024],
        num_layers=4,
        predict='ensemble',
        init_cfg=None,  # the initialisation of a linear head does not fit attention
    ),
)
optim_wrapper = dict(optimizer=dict(_delete_=True, type='AdamW', lr=1e-3, weight_decay=1e-4))
