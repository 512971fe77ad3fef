"""Size of the task files of all methods in configs/fgvc, for ViT-B/16 and 200 classes.

Prints a table in Markdown: tuned parameters, and the size of the file that publish_model.py writes
for a task file, in float32 and with --half.

    python benchmarks/task_files.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmengine.utils import ProgressBar
from torch import Tensor

from toast_mm.checkpoint.adapter import frozen_base, in_half, leave_out_base, make_record
from toast_mm.files import save_safetensors
from toast_mm.models import TOASTViT

CLASSES = 200
JOBS = {
    path.name.split('_')[0]: path
    for path in Path(__file__).parents[1].glob('configs/fgvc/*_vit-b16-in1k_*.py')
}


def build(method: str, base: str) -> torch.nn.Module:
    """Build a classifier that a method tunes."""
    model = Config.fromfile(JOBS[method]).model
    model.backbone.init_cfg = dict(type='Pretrained', checkpoint=base)
    if 'lite' in model.backbone:
        # Not loaded here. With this name, the frozen path of TOAST-Lite counts as the base.
        model.backbone.pretuned = 'topdown.safetensors'
    model.head.num_classes = CLASSES
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return MODELS.build(model)


def size(weights: dict[str, Tensor], folder: str, half: bool) -> float:
    """Size in MiB of a file with these weights."""
    if half:
        weights = in_half(weights)
    path = f'{folder}/task.safetensors'
    save_safetensors(weights, path, {})
    return Path(path).stat().st_size / 2**20


def main() -> None:
    methods = sorted(JOBS)
    rows = []
    progress = ProgressBar(len(methods))
    with tempfile.TemporaryDirectory() as folder:
        base = f'{folder}/base.pth'
        torch.save(TOASTViT(arch='deit-base', feedback_from=None).state_dict(), base)
        for method in methods:
            model = build(method, base)
            backbone = model.backbone
            tuned = sum(p.numel() for p in model.parameters() if p.requires_grad)
            weights = dict(model.state_dict())
            names = frozen_base(backbone)
            if names:
                leave_out_base(weights, names, make_record(backbone, names), 'backbone.')
            sizes = [size(weights, folder, half) for half in (False, True)]
            rows.append((tuned, method, *sizes))
            progress.update()
    total = sum(p.numel() for p in TOASTViT(arch='deit-base', feedback_from=None).parameters())
    print(
        '\n\n| method | tuned, head included | share of the backbone | float32 MiB | float16 MiB |'
    )
    print('|---|---|---|---|---|')
    for tuned, method, single, half in sorted(rows):
        share = f'{tuned / total:.1%}'
        print(f'| `{method}` | {tuned / 1e6:.2f}M | {share} | {single:.1f} | {half:.1f} |')


if __name__ == '__main__':
    main()
