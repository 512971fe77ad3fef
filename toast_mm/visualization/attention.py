"""Where a backbone looks: in its only pass, or in both passes of a steered one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import torch
from torch import Tensor

from toast_mm.models.backbones.coarse import fit_map
from toast_mm.models.backbones.first_pass import FirstPass
from toast_mm.models.backbones.modes import set_modes
from toast_mm.models.backbones.record import PassRecord
from toast_mm.models.backbones.steering import SteeredBackbone


@dataclass
class AttentionMaps:
    """Maps of a block over a batch of images.

    Attributes:
        mask: Selection mask ``(B, h, w)`` of the patches or pixels of the read-out: 1 keeps one, 0
            drops it. None without a top-down module.
        first: What the block attends to in the first pass ``(B, heads, h, w)``, by patch. It is the
            attention of the class token, or the mean over all patches without one; the sum is below
            1, since class and register tokens and prompts are left out. For a network without
            attention over the whole image it is the energy of the features ``(B, 1, h, w)``: the
            norm of the block's output at every pixel. None if this pass does not run the block. The
            maps of a coarse first pass are resized to those of the second, with the same sum of
            attention.
        second: The same in the second pass.
        what: What the two show: ``'attention'`` or ``'energy'``.
    """

    mask: Tensor | None
    first: Tensor | None
    second: Tensor | None
    what: str

    @property
    def difference(self) -> Tensor | None:
        """What the second pass adds to the first; None if the block runs in one pass only."""
        if self.first is None or self.second is None:
            return None
        return self.second - self.first

    def mean(self) -> AttentionMaps:
        """The same maps averaged over the heads, of which one is left."""
        first, second = (
            None if maps is None else maps.mean(1, keepdim=True)
            for maps in (self.first, self.second)
        )
        return replace(self, first=first, second=second)


@torch.no_grad()
def attention_maps(
    backbone: Any, images: Tensor, blocks: Sequence[int] | int | None = None
) -> dict[int, AttentionMaps]:
    """Compute what blocks of a backbone attend to.

    The backbone runs in eval mode and as fast as ever. Only the blocks that are asked for run once
    more, to show their attention.

    Args:
        backbone: A backbone of this package, with or without a top-down module. Without one, its
            single pass is the first.
        images: Preprocessed images ``(B, bands, H, W)``.
        blocks: Numbers of blocks, or of stages; negative ones count from the end. Defaults to None,
            the last block that runs in both passes.

    Returns:
        Maps by number of the block, from 0.

    Raises:
        ValueError: The backbone has no such maps or no such block; the message says why.

    Example:
        >>> backbone = TOASTViT(arch='deit-tiny')
        >>> maps = attention_maps(backbone, torch.rand(2, 3, 224, 224), blocks=[0, -1])
        >>> maps[11].second.shape, maps[11].mean().difference.shape
        (torch.Size([2, 3, 14, 14]), torch.Size([2, 1, 14, 14]))
    """
    _check_family(backbone)
    numbers = _resolve_blocks(backbone, blocks)
    with set_modes(dict.fromkeys(backbone.modules(), False)):
        with backbone.recording() as record:
            backbone.forward(images)  # __call__ would compile a backbone that trains compiled
        run = getattr(record, 'first', FirstPass()).streams
        if not run.keys() >= set(range(-1, _blocks_of_first_pass(backbone))):
            raise ValueError(
                'the first pass was handed over and did not run: compute attention maps outside of '
                'backbone.using'
            )
        return {number: _maps_of(backbone, number, record) for number in numbers}


def running_blocks(backbone: Any) -> range:
    """Numbers of the blocks, or stages, that run in any pass of a backbone of this package.

    Raises:
        ValueError: It is not one of this package.
    """
    _check_family(backbone)
    return range(max(_blocks_of_first_pass(backbone), backbone.out_indices[-1] + 1))


def _resolve_blocks(backbone: SteeredBackbone, blocks: Sequence[int] | int | None) -> list[int]:
    """Numbers of blocks from 0, in the given order.

    Raises:
        ValueError: There is none, or one does not exist or does not run.
    """
    depth, last = backbone.depth, backbone.out_indices[-1]
    last_of_first = _blocks_of_first_pass(backbone) - 1
    if blocks is None:
        return [min(last_of_first, last)]
    asked = list(blocks) if isinstance(blocks, Iterable) else [blocks]
    if not asked or not all(block in range(-depth, depth) for block in asked):
        raise ValueError(
            f'blocks={blocks!r} must name blocks of this {type(backbone).__name__}: 0..'
            f'{depth - 1}, or -{depth}..-1 counted from the end'
        )
    numbers = list(dict.fromkeys(block % depth for block in asked))
    if above := [number for number in numbers if number > max(last_of_first, last)]:
        raise ValueError(
            f'blocks={blocks}: block {above[0]} does not run, since the outputs of this '
            f'{type(backbone).__name__} end at block {last} (out_indices)'
        )
    return numbers


def _check_family(backbone: Any) -> None:
    if not isinstance(backbone, SteeredBackbone):
        raise ValueError(
            'attention maps need a backbone of toast_mm, such as toast_mm.TOASTViT or '
            'toast_mm.TOASTTimm (feedback_from=None makes it a plain one), and without a wrapper; '
            f'this is a {type(backbone).__name__}'
        )


def _blocks_of_first_pass(backbone: SteeredBackbone) -> int:
    return backbone.route.feedback_from if backbone.topdown else backbone.out_indices[-1] + 1


def _maps_of(backbone: SteeredBackbone, block: int, record: PassRecord) -> AttentionMaps:
    passes = (
        (record.first.streams, record.first.context),
        (record.second, record.context),
    )
    maps = [_map_of(backbone, block, *streams) for streams in passes]
    (what, some), *_ = (found for found in maps if found is not None)
    first, second = (None if found is None else found[1] for found in maps)
    mask = None
    if backbone.topdown is not None:
        mask = backbone.topdown.selection.mask(record.z)[..., 0]
        if mask.ndim == 2:  # of tokens, patches last
            grid = record.first.context if backbone.coarse else some.shape[-2:]
            mask = mask[:, -prod(grid) :].unflatten(1, grid)
    if first is not None and second is not None and first.shape != second.shape:
        parts = first[0, 0].numel() / second[0, 0].numel() if what == 'attention' else 1
        first = fit_map(first, second.shape[-2:]) * parts
    return AttentionMaps(mask, first, second, what)


def _map_of(
    backbone: SteeredBackbone, block: int, streams: Mapping[int, Tensor], context: Any
) -> tuple[str, Tensor] | None:
    """What is shown of a block in a pass, and the map; None if the pass does not run the block."""
    if not {block - 1, block} <= streams.keys():
        return None
    attention = backbone.attention(block, streams[block - 1], context)
    if attention is not None:
        return 'attention', attention
    if streams[block].ndim != 4:
        raise ValueError(
            f'this {type(backbone).__name__} does not say its attention (by a method attention), '
            'and its blocks return no maps (B, C, H, W): there is nothing to draw'
        )
    return 'energy', streams[block].norm(dim=1, keepdim=True)
