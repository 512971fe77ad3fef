"""TOAST classifier on ViT-L/16 of ImageNet-21k; see the README for its weights."""

model = dict(
    type='ImageClassifier',
    _scope_='mmpretrain',  # for mmengine.hub, which builds the model without a default scope
    # The preprocessing depends on the weights: these were trained on images in [-1, 1].
    data_preprocessor=dict(
        type='ClsDataPreprocessor',
        num_classes=1000,
        mean=[127.5, 127.5, 127.5],
        std=[127.5, 127.5, 127.5],
        to_rgb=True,
    ),
    backbone=dict(
        type='toast_mm.TOASTViT',
        arch='large',
        img_size=224,
        patch_size=16,
        feedback_from='last',
        init_cfg=dict(
            type='Pretrained', checkpoint='checkpoints/vit-l16_in21k.pth', prefix='backbone.'
        ),
    ),
    head=dict(
        type='VisionTransformerClsHead',
        num_classes=1000,
        in_channels=1024,
        loss=dict(type='CrossEntropyLoss'),
        # The bias starts at -log(99): every class at a probability of 0.01.
        init_cfg=dict(type='Kaiming', layer='Linear', mode='fan_out', bias=-4.59512),
    ),
)
