"""TOAST classifier on a ViT of 1.3M parameters, which a config of `configs/pretrain` trained."""

model = dict(
    type='ImageClassifier',
    _scope_='mmpretrain',  # for mmengine.hub, which builds the model without a default scope
    data_preprocessor=dict(
        type='ClsDataPreprocessor',
        num_classes=100,
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        to_rgb=True,
    ),
    backbone=dict(
        type='toast_mm.TOASTViT',
        arch=dict(embed_dims=128, num_layers=6, num_heads=4, feedforward_channels=512),
        img_size=64,
        patch_size=8,
        patch_cfg=dict(conv_type='toast_mm.ConvStem'),
        feedback_from='last',
        init_cfg=dict(
            type='Pretrained',
            checkpoint='toast_mm://vit-1m_tinyin100.safetensors',
            prefix='backbone.',
        ),
    ),
    head=dict(
        type='VisionTransformerClsHead',
        num_classes=100,
        in_channels=128,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
    ),
)
