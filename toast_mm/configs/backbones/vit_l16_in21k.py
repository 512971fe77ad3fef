"""ViT-L/16 pre-trained on ImageNet-21k; the README says where its weights come from."""

backbone = dict(
    type='toast_mm.TOASTViT',
    arch='large',
    img_size=224,
    patch_size=16,
    init_cfg=dict(
        type='Pretrained', checkpoint='checkpoints/vit-l16_in21k.pth', prefix='backbone.'
    ),
)
embed_dims = 1024
dense = dict(out_type='featmap', out_indices=[5, 11, 17, 23])  # for dense heads
dense_channels = [embed_dims] * 4

# Preprocessing belongs to the weights: these were trained on images in [-1, 1].
preprocessing = dict(
    mean=[127.5, 127.5, 127.5],
    std=[127.5, 127.5, 127.5],
)
