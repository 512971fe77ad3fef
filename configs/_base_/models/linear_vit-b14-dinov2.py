"""Linear head on the last map of a frozen ViT-B/14 of DINOv2, as in its paper."""

_name = 'vit_base_patch14_reg4_dinov2.lvd142m'
model = dict(
    type='EncoderDecoder',
    _scope_='mmseg',  # for mmengine.hub, which builds the model without a default scope
    data_preprocessor=dict(
        type='toast_mm.TimmSegDataPreProcessor',  # mean and std of this model
        model_name=_name,
        pad_val=0,
        seg_pad_val=255,
        test_cfg=dict(size_divisor=14),
    ),
    backbone=dict(
        type='toast_mm.TOASTTimm',
        model_name=_name,
        pretrained=True,
        out_type='featmap',
        feedback_from=None,
    ),
    decode_head=dict(
        type='toast_mm.LinearDecodeHead',
        in_channels=768,
        num_classes=150,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='slide', crop_size=(518, 518), stride=(341, 341)),
)
