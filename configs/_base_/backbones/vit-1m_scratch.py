"""A ViT of about 1M parameters without pre-training: for trying things out on a CPU."""

backbone = dict(
    arch=dict(embed_dims=128, num_layers=6, num_heads=4, feedforward_channels=512),
    img_size=96,
    patch_size=8,
)
embed_dims = 128
stages = [1, 2, 4, 5]  # blocks whose outputs dense heads use

preprocessing = dict(
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
)
