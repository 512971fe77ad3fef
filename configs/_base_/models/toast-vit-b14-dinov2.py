"""TOAST classifier on a ViT-B/14 of DINOv2 with registers, from the Hugging Face Hub."""

_name = 'vit_base_patch14_reg4_dinov2.lvd142m'
model = dict(
    type='ImageClassifier',
    _scope_='mmpretrain',  # for mmengine.hub, which builds the model without a default scope
    data_preprocessor=dict(
        type='toast_mm.TimmClsDataPreprocessor',  # mean and std of this model
        model_name=_name,
        num_classes=1000,
    ),
    backbone=dict(
        type='toast_mm.TOASTTimm',
        model_name=_name,
        pretrained=True,
        img_size=224,
        feedback_from='last',
    ),
    head=dict(
        type='VisionTransformerClsHead',
        num_classes=1000,
        in_channels=768,
        loss=dict(type='CrossEntropyLoss'),
        # The bias starts at -log(99): every class at a probability of 0.01.
        init_cfg=dict(type='Kaiming', layer='Linear', mode='fan_out', bias=-4.59512),
    ),
)
