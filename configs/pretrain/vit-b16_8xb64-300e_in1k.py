"""Base training of ViT-B/16 on ImageNet-1k, DeiT's recipe (paper sec. A.1).

bash tools/dist_train.sh configs/pretrain/vit-b16_8xb64-300e_in1k.py 8
"""

_base_ = [
    '../_base_/models/toast-vit-b16-in1k.py',
    '../_base_/datasets/imagenet_224.py',
    'mmpretrain::_base_/schedules/imagenet_bs1024_adamw_swin.py',
    '../_base_/classification_runtime.py',
]

model = dict(
    backbone=dict(
        _delete_=True,
        type='VisionTransformer',
        arch='deit-base',
        img_size=224,
        patch_size=16,
        drop_path_rate=0.1,
        init_cfg=None,
    ),
    head=dict(
        _delete_=True,
        type='VisionTransformerClsHead',
        num_classes=1000,
        in_channels=768,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
    ),
    init_cfg=[
        dict(type='TruncNormal', layer='Linear', std=0.02),
        dict(type='Constant', layer='LayerNorm', val=1.0, bias=0.0),
    ],
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]),
)
data_preprocessor = _base_.model.data_preprocessor  # mmengine.hub reads it here

_warmup = 5
optim_wrapper = dict(
    optimizer=dict(lr=5e-4),
    paramwise_cfg=dict(
        custom_keys=dict(cls_token=dict(decay_mult=0.0), pos_embed=dict(decay_mult=0.0))
    ),
    clip_grad=dict(max_norm=5.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, end=_warmup, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        eta_min=1e-5,
        begin=_warmup,
        end=300,
        convert_to_iter_based=True,
    ),
]
auto_scale_lr = dict(base_batch_size=512)
