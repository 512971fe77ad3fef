"""UPerNet and TOAST on a ViT-B/14 of DINOv2 with registers, from the Hugging Face Hub."""

_name = 'vit_base_patch14_reg4_dinov2.lvd142m'
norm_cfg = dict(type='SyncBN', requires_grad=True)
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
        drop_path_rate=0.1,
        out_type='featmap',
        out_indices=[2, 5, 8, 11],
        feedback_from='middle',
    ),
    decode_head=dict(
        type='UPerHead',
        in_channels=[768, 768, 768, 768],
        in_index=[0, 1, 2, 3],
        pool_scales=(1, 2, 3, 6),
        channels=512,
        dropout_ratio=0.1,
        num_classes=150,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
    ),
    auxiliary_head=dict(
        type='FCNHead',
        in_channels=768,
        in_index=3,
        channels=256,
        num_convs=1,
        concat_input=False,
        dropout_ratio=0.1,
        num_classes=150,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=0.4),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
