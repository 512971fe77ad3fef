"""ViT-L/16 pre-trained on ImageNet-21k; the README says where its weights come from."""

backbone = dict(
    arch='large',
    img_size=224,
    patch_size=16,
    init_cfg=dict(
        type='Pretrained', checkpoint='checkpoints/vit-l16_in21k.pth', prefix='backbone.'
    ),
)
embed_dims = 1024
stages = [5, 11, 17, 23]  # blocks whose outputs dense heads use

# Preprocessing belongs to the weights: these were trained on images in [-1, 1].
preprocessing = dict(
    mean=[127.5, 127.5, 127.5],
    std=[127.5, 127.5, 127.5],
)
