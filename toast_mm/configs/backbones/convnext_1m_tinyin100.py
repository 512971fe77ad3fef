"""ConvNeXt of 1.5M parameters, trained by a config of `configs/pretrain`."""

backbone = dict(
    type='toast_mm.TOASTConvNeXt',
    arch=dict(depths=[1, 2, 5, 1], channels=[32, 64, 128, 256]),
    stem_patch_size=2,  # images are small
    layer_scale_init_value=1.0,  # 1e-6 learns slower in a net this shallow
    init_cfg=dict(
        type='Pretrained',
        checkpoint='toast_mm://convnext-1m_tinyin100.safetensors',
        prefix='backbone.',
    ),
)
embed_dims = 256
dense = dict(gap_before_final_norm=False, out_indices=[0, 1, 2, 3])  # for dense heads
dense_channels = [32, 64, 128, 256]

preprocessing = dict(
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
)
