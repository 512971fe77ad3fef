"""ViT of 1.3M parameters with a convolutional stem, trained by a config of `configs/pretrain`."""

backbone = dict(
    type='toast_mm.TOASTViT',
    arch=dict(embed_dims=128, num_layers=6, num_heads=4, feedforward_channels=512),
    img_size=64,
    patch_size=8,
    patch_cfg=dict(conv_type='toast_mm.ConvStem'),
    init_cfg=dict(
        type='Pretrained',
        checkpoint='toast_mm://vit-1m_tinyin100.safetensors',
        prefix='backbone.',
    ),
)
embed_dims = 128
dense = dict(out_type='featmap', out_indices=[1, 2, 4, 5])  # for dense heads
dense_channels = [embed_dims] * 4

preprocessing = dict(
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
)
