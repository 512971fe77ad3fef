"""Patch embeddings that mmpretrain lacks."""

from math import log2

from mmcv.cnn import ConvModule
from torch import nn

from toast_mm.registry import MODELS


@MODELS.register_module()
class ConvStem(nn.Sequential):
    """Stack of 3 x 3 convolutions of stride 2 in place of one convolution of stride 2^n.

    It trains better than a patch embedding if there are few images. Xiao et al., `Early
    Convolutions Help Transformers See Better <https://arxiv.org/abs/2106.14881>`_. A ViT uses it
    with ``patch_cfg=dict(conv_type='toast_mm.ConvStem')``.

    Args:
        in_channels: Channels of the image.
        out_channels: Channels C of a token; each convolution doubles the channels, up to C.
        kernel_size: Side of a patch.
        stride: Same as ``kernel_size``.
        bias: Whether the final 1 x 1 convolution has a bias.
        padding: Must be 0: mmcv's ``PatchEmbed`` pads the image itself.
        dilation: Must be 1.

    Raises:
        ValueError: The side of a patch is not a power of 2, or patches overlap or are padded.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: tuple[int, int],
        stride: tuple[int, int],
        bias: bool = True,
        padding: tuple[int, int] = (0, 0),
        dilation: tuple[int, int] = (1, 1),
    ) -> None:
        halvings = log2(stride[0])
        tiles = (kernel_size, padding, dilation) == (stride, (0, 0), (1, 1))
        if not tiles or stride[0] != stride[1] or halvings < 1 or not halvings.is_integer():
            raise ValueError(
                f'ConvStem does not fit patches of {kernel_size} at stride {stride} with padding '
                f'{padding} and dilation {dilation}: each convolution halves the image, so patches '
                'must be square, without overlap, padding and dilation, and 2, 4, 8 or another '
                'power of 2 wide'
            )
        widths = [out_channels >> n for n in reversed(range(int(halvings)))]
        convolutions = [
            ConvModule(before, width, 3, stride=2, padding=1, norm_cfg=dict(type='BN'))
            for before, width in zip([in_channels, *widths], widths, strict=False)
        ]
        super().__init__(*convolutions, nn.Conv2d(out_channels, out_channels, 1, bias=bias))
