"""UPerNet and TOAST on ConvNeXt-B of DINOv3, from the Hugging Face Hub."""

_name = 'convnext_base.dinov3_lvd1689m'
norm_cfg = dict(type='SyncBN', requires_grad=True)
model = dict(
    type='EncoderDecoder',
    _scope_='mmseg',  # for mmengine.hub, which builds the model without a default scope
    data_preprocessor=dict(
        type='toast_mm.TimmSegDataPreProcessor',  # mean and std of this model
        model_name=_name,
        pad_val=0,
        seg_pad_val=255,
    ),
    backbone=dict(
        type='toast_mm.TOASTTimm',
        model_name=_name,
        pretrained=True,
        drop_path_rate=0.1,
        out_indices=[0, 1, 2, 3],
        feedback_from='last',
    ),
    decode_head=dict(
        type='UPerHead',
        in_channels=[128, 256, 512, 1024],
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
        in_channels=512,
        in_index=2,
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
