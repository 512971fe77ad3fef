"""ConvNeXt-B pre-trained on ImageNet-1k, from mmpretrain's model zoo."""

backbone = dict(
    type='toast_mm.TOASTConvNeXt',
    arch='base',
    init_cfg=dict(
        type='Pretrained',
        checkpoint='https://mmassets.onedl.ai/mmclassification/v0/convnext/'
        'convnext-base_3rdparty_32xb128_in1k_20220124-d0915162.pth',
        prefix='backbone.',
    ),
)
embed_dims = 1024
dense = dict(gap_before_final_norm=False, out_indices=[0, 1, 2, 3])  # for dense heads
dense_channels = [128, 256, 512, 1024]

preprocessing = dict(
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
)
