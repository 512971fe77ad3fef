"""ViT-B/16 pre-trained on ImageNet-1k as DeiT does, from mmpretrain's model zoo."""

backbone = dict(
    type='toast_mm.TOASTViT',
    arch='deit-base',
    img_size=224,
    patch_size=16,
    init_cfg=dict(
        type='Pretrained',
        checkpoint='https://mmassets.onedl.ai/mmclassification/v0/deit/'
        'deit-base_pt-16xb64_in1k_20220216-db63c16c.pth',
        prefix='backbone.',
    ),
)
embed_dims = 768
dense = dict(out_type='featmap', out_indices=[2, 5, 8, 11])  # for dense heads
dense_channels = [embed_dims] * 4

# Preprocessing belongs to the weights: these were trained with ImageNet statistics.
preprocessing = dict(
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
)
