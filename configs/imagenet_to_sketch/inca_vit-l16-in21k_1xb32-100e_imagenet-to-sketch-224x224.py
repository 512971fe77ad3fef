"""ImageNet-to-Sketch on ViT-L/16 (ImageNet-21k): InCA.

DATASET=wikiart python tools/train.py \
    configs/imagenet_to_sketch/inca_vit-l16-in21k_1xb32-100e_imagenet-to-sketch-224x224.py
"""

_base_ = '../fgvc/toast-last_vit-l16-in21k_1xb32-100e_fgvc-224x224.py'

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
task_files = True
