"""VPT: learned tokens in addition to those of the image.

Jia et al., `Visual Prompt Tuning <https://arxiv.org/abs/2203.12119>`_.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from toast_mm.registry import MODELS

from .base import Tuner

if TYPE_CHECKING:
    from toast_mm.models.backbones.transfer import TransferBackbone


def insert_prompts(
    block: nn.Module, arguments: tuple[Any, ...], extra: int, replaced: int
) -> tuple[Any, ...]:
    """Hook before a block: insert its prompts after the extra tokens, and drop older prompts.

    Args:
        block: The block, whose ``prompts`` are ``(p, C)``.
        arguments: Arguments of the block; the first are tokens ``(B, N, C)``.
        extra: Number of extra tokens, such as the class token.
        replaced: Number of prompts of earlier blocks among the tokens.
    """
    x, *others = arguments
    prompts = block.get_parameter('prompts').to(x.dtype).expand(len(x), -1, -1)
    return torch.cat((x[:, :extra], prompts, x[:, extra + replaced :]), dim=1), *others


@MODELS.register_module()
class VPT(Tuner):
    """Prompts: learned tokens that every block attends to and no output contains.

    They have no position embedding and start from U(+-sqrt(6 / (3 P^2 + C))) for patches of P x P.

    Args:
        num_prompts: Number p of prompts. Defaults to 100.
        deep: Whether every block has its own prompts, which replace those of the block before
            (VPT-deep). Otherwise the prompts of the first block pass through all blocks
            (VPT-shallow). Defaults to True.

    Raises:
        ValueError: ``num_prompts`` is below 1.
    """

    most = 10  # prompts per patch; the paper tries up to 200 prompts for 196 patches

    def __init__(self, num_prompts: int = 100, deep: bool = True) -> None:
        if num_prompts < 1:
            raise ValueError(f'num_prompts={num_prompts} must be at least 1')
        self.num_prompts = num_prompts
        self.deep = deep

    def inject(self, backbone: TransferBackbone) -> None:
        """Give the blocks their prompts.

        Raises:
            ValueError: The backbone has no tokens, or has a top-down module, or there are more than
                ten prompts per patch.
        """
        tokens = backbone.tokens
        if tokens is None:
            raise ValueError(
                f'VPT adds tokens, but {type(backbone).__name__} has no tokens; it fits '
                'toast_mm.TOASTViT, and toast_mm.TOASTTimm with a Vision Transformer'
            )
        if backbone.topdown is not None:
            raise ValueError(
                'VPT and feedback cannot be combined, since signals are for the tokens of the '
                'image; set feedback_from=None, or combine feedback with LoRA or BitFit'
            )
        if self.num_prompts > self.most * tokens.patches:
            raise ValueError(
                f'num_prompts={self.num_prompts} is too many for {tokens.patches} patches: '
                f'at most {self.most * tokens.patches} are allowed'
            )
        bound = (6 / (3 * tokens.patch_pixels + tokens.channels)) ** 0.5
        for number in range(backbone.depth if self.deep else 1):
            block = backbone.block_modules(number)[0]
            prompts = next(block.parameters()).new_empty(self.num_prompts, tokens.channels)
            block.register_parameter('prompts', nn.Parameter(prompts.uniform_(-bound, bound)))
            replaced = self.num_prompts if number else 0
            hook = partial(insert_prompts, extra=tokens.extra, replaced=replaced)
            block.register_forward_pre_hook(hook)
        tokens.prompts = self.num_prompts
