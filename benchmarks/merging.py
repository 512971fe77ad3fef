"""How much of the steering a cheaper first pass loses: merged tokens against a smaller image.

Prints a table in Markdown. The work is that of a folded ViT-B/16 at 224 x 224, last route, relative
to the plain backbone. What is lost is measured on the small ViT, with the pre-tuned module and the
mean token as task embedding: how far its features are from those with a full first pass, relative
to how far these are from features without steering. Nothing is trained.

    python benchmarks/merging.py data/cub25_crop96/images
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.logging import MMLogger
from mmengine.registry import MODELS
from PIL import Image
from torch import Tensor

from toast_mm.engine.config import read_config
from toast_mm.engine.flops import flops_per_image
from toast_mm.models import TOASTViT

SMALL = 'configs/_base_/models/toast-vit-1m-tinyin100.py'
PRETUNED = 'toast_mm://vit-1m_tinyin100_toast-last.safetensors'


FIRST_PASSES: dict[str, dict[str, float]] = {
    'full': {},
    'scale 1/2': dict(scale=1 / 2),
    'scale 1/3': dict(scale=1 / 3),
    'merged to 1/2': dict(merge=1 / 2),
    'merged to 1/4': dict(merge=1 / 4),
    'merged to 1/6': dict(merge=1 / 6),
    'merged to 1/9': dict(merge=1 / 9),
}


def cost(first_pass: dict[str, float] | None) -> float:
    """FLOPs of a forward of the folded ViT-B/16; without feedback if the first pass is None."""
    with torch.device('meta'):
        source = None if first_pass is None else 'last'
        backbone = TOASTViT(arch='base', feedback_from=source, first_pass=first_pass).eval()
        if source:
            backbone.fold()
        with torch.no_grad():
            return flops_per_image(backbone, torch.empty(2, 3, 224, 224))


def build(**changes: Any) -> TOASTViT:
    """The small ViT with its weights; its output is the mean of the patches."""
    backbone = MODELS.build(
        {**read_config(SMALL).model.backbone, 'out_type': 'avg_featmap', **changes}
    )
    backbone.init_weights()
    return backbone.eval()


def features(first_pass: dict[str, float] | None, images: Tensor) -> Tensor:
    """Features ``(B, C)`` of the small ViT, steered by the mean token, or without feedback."""
    if first_pass is None:
        backbone = build(feedback_from=None)
    else:
        backbone, sharp = build(pretuned=PRETUNED, first_pass=first_pass), build()
        first = sharp.run_first_pass(images[:250])
        tokens, _ = sharp.read_out(first.streams[sharp.depth - 1])
        mean = F.normalize(tokens, dim=-1).mean((0, 1))
        backbone.topdown.selection.task_embedding.data.copy_(F.normalize(mean, dim=0))
    return torch.cat([backbone(part)[0] for part in images.split(50)])


def load(folder: str, number: int) -> Tensor:
    """Every n-th image of a folder, preprocessed, ``(B, 3, 64, 64)``."""
    files = sorted(Path(folder).rglob('*.jpg'))
    chosen: Sequence[Path] = files[:: max(1, len(files) // number)][:number]
    pixels = [np.array(Image.open(file).convert('RGB').resize((64, 64))) for file in chosen]
    images = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float()
    preprocessing = read_config(SMALL).model.data_preprocessor
    mean, std = (torch.tensor(preprocessing[name])[:, None, None] for name in ('mean', 'std'))
    return (images - mean) / std


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('images', help='folder of images')
    parser.add_argument('--number', type=int, default=500, help='images to look at')
    args = parser.parse_args()
    images = load(args.images, args.number)
    MMLogger.get_instance('mmengine', log_level='ERROR')
    plain, full = features(None, images), features({}, images)
    print(f'{len(images)} images\n\n| first pass | work | lost |\n|---|---:|---:|')
    for name, first_pass in FIRST_PASSES.items():
        moved = features(first_pass, images)
        lost = ((moved - full).norm(dim=1) / (full - plain).norm(dim=1)).mean()
        print(f'| {name} | {cost(first_pass) / cost(None):.3f} | {lost:.1%} |', flush=True)


if __name__ == '__main__':
    main()
