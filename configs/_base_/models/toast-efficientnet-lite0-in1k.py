"""TOAST classifier on timm's EfficientNet-Lite0, whose weights
`tools/model_converters/efficientnet_lite0.py` takes from a package of Python."""

_name = 'tf_efficientnet_lite0'
model = dict(
    type='ImageClassifier',
    _scope_='mmpretrain',  # for mmengine.hub, which builds the model without a default scope
    data_preprocessor=dict(
        type='toast_mm.TimmClsDataPreprocessor', model_name=_name, num_classes=1000
    ),
    backbone=dict(
        type='toast_mm.TOASTTimm',
        model_name=_name,
        out_type='avg_featmap',
        feedback_from='last',
        init_cfg=dict(type='Pretrained', checkpoint=f'checkpoints/{_name}.safetensors'),
    ),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=1280,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
    ),
)
