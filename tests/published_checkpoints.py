"""Small checkpoints with the names of the published TOAST code."""

import torch

DIM, HEADS, DEPTH = 16, 2, 3
CHANNELS, DEPTHS = (4, 6, 8, 10), (1, 2, 1, 1)


def random_state(shapes):
    generator = torch.Generator().manual_seed(0)
    return {n: torch.randn(*s, generator=generator) * 0.3 for n, s in shapes.items()}


def published_vit(lite=False):
    """Random weights with the names and shapes of the published ViT for 32 x 32 images."""
    shapes = {
        'cls_token': (1, 1, DIM),
        'pos_embed': (1, 17, DIM),
        'patch_embed.proj.weight': (DIM, 3, 8, 8),
        'patch_embed.proj.bias': (DIM,),
        'norm.weight': (DIM,),
        'norm.bias': (DIM,),
        'prompt': (DIM,),
        'top_down_transform': (DIM, DIM),
    }
    for n in range(DEPTH):
        linears = {'attn.qkv': (3 * DIM, DIM), 'attn.proj': (DIM, DIM)}
        linears |= {'mlp.fc1': (4 * DIM, DIM), 'mlp.fc2': (DIM, 4 * DIM)}
        for name, shape in linears.items():
            shapes |= {f'blocks.{n}.{name}.weight': shape, f'blocks.{n}.{name}.bias': shape[:1]}
        for name in ('norm1', 'norm2'):
            shapes |= {f'blocks.{n}.{name}.{kind}': (DIM,) for kind in ('weight', 'bias')}
        for name in ('linear', 'linear2'):
            shapes[f'decoders.{n}.{name}.weight'] = (DIM, DIM)
            if lite:
                shapes[f'decoders.{n}.{name}.lora_A'] = (4, DIM)
                shapes[f'decoders.{n}.{name}.lora_B'] = (DIM, 4)
    return random_state(shapes)


def published_convnext():
    """The same for the published ConvNeXt."""
    shapes = {
        'norm.weight': CHANNELS[-1:],
        'norm.bias': CHANNELS[-1:],
        'prompt': CHANNELS[-1:],
        'top_down_transform': (CHANNELS[-1], CHANNELS[-1]),
    }
    below = 3
    for stage, (width, depth) in enumerate(zip(CHANNELS, DEPTHS, strict=True)):
        side, norm, conv = (4, 1, 0) if stage == 0 else (2, 0, 1)
        normed = width if stage == 0 else below
        layer = f'downsample_layers.{stage}'
        shapes |= {f'{layer}.{conv}.weight': (width, below, side, side)}
        shapes |= {f'{layer}.{conv}.bias': (width,)}
        shapes |= {f'{layer}.{norm}.{kind}': (normed,) for kind in ('weight', 'bias')}
        for n in range(depth):
            block = f'stages.{stage}.{n}'
            shapes |= {
                f'{block}.dwconv.weight': (width, 1, 7, 7),
                f'{block}.dwconv.bias': (width,),
                f'{block}.norm.weight': (width,),
                f'{block}.norm.bias': (width,),
                f'{block}.pwconv1.weight': (4 * width, width),
                f'{block}.pwconv1.bias': (4 * width,),
                f'{block}.pwconv2.weight': (width, 4 * width),
                f'{block}.pwconv2.bias': (width,),
                f'{block}.gamma': (width,),
            }
        shapes[f'decoders.{stage}.linear.weight'] = (width, below, side, side)
        shapes[f'decoders.{stage}.linear2.weight'] = (below, below, 1, 1)
        below = width
    return random_state(shapes)
