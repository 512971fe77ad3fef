"""TOAST classifier on a ConvNeXt of 1.5M parameters,
which a config of `configs/pretrain` trained."""

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
        type='toast_mm.TOASTConvNeXt',
        arch=dict(depths=[1, 2, 5, 1], channels=[32, 64, 128, 256]),
        stem_patch_size=2,  # images are small
        layer_scale_init_value=1.0,  # 1e-6 learns more slowly in a shallow network
        feedback_from='last',
        init_cfg=dict(
            type='Pretrained',
            checkpoint='toast_mm://convnext-1m_tinyin100.safetensors',
            prefix='backbone.',
        ),
    ),
    head=dict(
        type='LinearClsHead',
        num_classes=100,
        in_channels=256,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
    ),
)
