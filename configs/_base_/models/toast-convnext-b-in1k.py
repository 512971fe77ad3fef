"""TOAST classifier on ConvNeXt-B of ImageNet-1k, from mmpretrain's model zoo."""

model = dict(
    type='ImageClassifier',
    _scope_='mmpretrain',  # for mmengine.hub, which builds the model without a default scope
    # The preprocessing depends on the weights: these were trained with ImageNet statistics.
    data_preprocessor=dict(
        type='ClsDataPreprocessor',
        num_classes=1000,
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        to_rgb=True,
    ),
    backbone=dict(
        type='toast_mm.TOASTConvNeXt',
        arch='base',
        feedback_from='last',
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://mmassets.onedl.ai/mmclassification/v0/convnext/'
            'convnext-base_3rdparty_32xb128_in1k_20220124-d0915162.pth',
            prefix='backbone.',
        ),
    ),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=1024,
        loss=dict(type='CrossEntropyLoss'),
        # The bias starts at -log(99): every class at a probability of 0.01.
        init_cfg=dict(type='Kaiming', layer='Linear', mode='fan_out', bias=-4.59512),
    ),
)
