"""UPerNet and TOAST on a ViT of 1.3M parameters,
which a config of `configs/pretrain` trained."""

norm_cfg = dict(type='SyncBN', requires_grad=True)
model = dict(
    type='EncoderDecoder',
    _scope_='mmseg',  # for mmengine.hub, which builds the model without a default scope
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
    ),
    backbone=dict(
        type='toast_mm.TOASTViT',
        arch=dict(embed_dims=128, num_layers=6, num_heads=4, feedforward_channels=512),
        img_size=64,
        patch_size=8,
        patch_cfg=dict(conv_type='toast_mm.ConvStem'),
        drop_path_rate=0.1,
        out_type='featmap',
        out_indices=[1, 2, 4, 5],
        feedback_from='middle',
        init_cfg=dict(
            type='Pretrained',
            checkpoint='toast_mm://vit-1m_tinyin100.safetensors',
            prefix='backbone.',
        ),
    ),
    decode_head=dict(
        type='UPerHead',
        in_channels=[128, 128, 128, 128],
        in_index=[0, 1, 2, 3],
        pool_scales=(1, 2, 3, 6),
        channels=512,
        dropout_ratio=0.1,
        num_classes=11,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
    ),
    auxiliary_head=dict(
        type='FCNHead',
        in_channels=128,
        in_index=3,
        channels=256,
        num_convs=1,
        concat_input=False,
        dropout_ratio=0.1,
        num_classes=11,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=0.4),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
