"""VPT: learned tokens beside those of the image.

Jia et al., `Visual Prompt Tuning <https://arxiv.org/abs/2203.12119>`_.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from toast_mm.models.backbones.toast_vit import SteeredEncoderLayer, TOASTViT
from toast_mm.models.layers import check_exact, replace_layers
from toast_mm.registry import MODELS

from .base import TunedLayer, Tuner

if TYPE_CHECKING:
    from toast_mm.models.backbones.transfer import TransferBackbone


class PromptedEncoderLayer(TunedLayer, SteeredEncoderLayer):
    """Encoder layer that puts prompts behind the extra tokens, in place of former ones."""

    prompts: nn.Parameter  # (p, C)
    bound: float  # of the uniform distribution that prompts start from
    extra_tokens: int
    replaced: int  # number of prompts that come with the stream

    def forward(self, x: Tensor, *args: Any) -> Tensor:
        """Tokens ``(B, N, C)``, with former prompts, to tokens with prompts."""
        prompts = self.prompts.to(x.dtype).expand(len(x), -1, -1)
        before, behind = x[:, : self.extra_tokens], x[:, self.extra_tokens + self.replaced :]
        return super().forward(torch.cat((before, prompts, behind), dim=1), *args)

    def reset_tuning(self) -> None:
        """As the projection of patches would be initialised."""
        nn.init.uniform_(self.prompts, -self.bound, self.bound)


@MODELS.register_module()
class VPT(Tuner):
    """Prompts: learned tokens that every block attends to and no output contains.

    They carry no position embedding and start from U(+-sqrt(6 / (3 P^2 + C))) for patches of P x P.

    Args:
        num_prompts: Number p of prompts. Defaults to 100.
        deep: Whether every block gets prompts of its own in place of what became of those before
            (VPT-deep); otherwise those of the first block go through all (VPT-shallow). Defaults
            to True.

    Raises:
        ValueError: There is no prompt.
    """

    most = 10  # prompts for every patch; the paper tries up to 200 beside 196 in all

    def __init__(self, num_prompts: int = 100, deep: bool = True) -> None:
        if num_prompts < 1:
            raise ValueError(f'num_prompts={num_prompts} must be at least 1')
        self.num_prompts = num_prompts
        self.deep = deep

    def inject(self, backbone: TransferBackbone) -> None:
        """Give the blocks their prompts.

        Raises:
            ValueError: The backbone has no tokens, or a top-down module, whose signals are for the
                tokens of the image, or there are more than ten prompts for every patch.
        """
        if not isinstance(backbone, TOASTViT):
            raise ValueError(
                f'VPT adds tokens, and {type(backbone).__name__} has no tokens; it fits '
                'toast_mm.TOASTViT'
            )
        if backbone.topdown is not None:
            raise ValueError(
                'VPT and feedback do not go together, since the signals are for the tokens of the '
                'image; choose feedback_from=None, or LoRA or BitFit beside feedback'
            )
        patches = prod(backbone.patch_resolution)
        if self.num_prompts > self.most * patches:
            raise ValueError(
                f'num_prompts={self.num_prompts} do not fit beside the {patches} patches of an '
                f'image: at most {self.most * patches}'
            )
        channels = backbone.embed_dims
        patch = prod(backbone.img_size) // patches
        prompted: dict[nn.Module, nn.Module] = {}
        for block, layer in enumerate(backbone.layers if self.deep else backbone.layers[:1]):
            check_exact(layer, [SteeredEncoderLayer], f'layers.{block}', 'VPT')
            with_prompts = PromptedEncoderLayer.from_layer(layer)
            prompts = next(layer.parameters()).new_empty(self.num_prompts, channels)
            with_prompts.prompts = nn.Parameter(prompts)
            with_prompts.bound = (6 / (3 * patch + channels)) ** 0.5
            with_prompts.extra_tokens = backbone.num_extra_tokens
            with_prompts.replaced = self.num_prompts if block else 0
            with_prompts.reset_tuning()
            prompted[layer] = with_prompts
        replace_layers(backbone, prompted)
        backbone.num_prompts = self.num_prompts
