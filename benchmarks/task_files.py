"""Size of the task files of classifiers; by default of all methods for ViT-B/16 and 200 classes.

Prints a table in Markdown: tuned parameters, and the size of the file that publish_model.py writes
for a task file, in float32 and with --half. Weights are random: sizes do not depend on them.

    python benchmarks/task_files.py
    python benchmarks/task_files.py configs/cub25/*_efficientnet-lite0_*.py
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmengine.utils import ProgressBar
from torch import Tensor

from toast_mm.checkpoint.adapter import frozen_base, in_half, leave_out_base, make_record
from toast_mm.files import save_safetensors

METHODS = sorted(Path(__file__).parents[1].glob('configs/fgvc/*_vit-b16-in1k_*.py'))


def build(config: Path) -> torch.nn.Module:
    """Build the classifier of a config, as if its base had been loaded."""
    model = Config.fromfile(config).model
    model.backbone.init_cfg = dict(type='Pretrained', checkpoint='base.pth')
    if 'lite' in model.backbone:
        # Not loaded here. With this name, the frozen path of TOAST-Lite counts as the base.
        model.backbone.pretuned = 'topdown.safetensors'
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
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('configs', nargs='*', type=Path, default=METHODS, help='of classifiers')
    args = parser.parse_args()
    rows = []
    progress = ProgressBar(len(args.configs))
    with tempfile.TemporaryDirectory() as folder:
        for config in args.configs:
            model = build(config)
            backbone = model.backbone
            tuned = sum(p.numel() for p in model.parameters() if p.requires_grad)
            base = sum(p.numel() for n, p in backbone.named_parameters() if backbone.is_base(n))
            weights = dict(model.state_dict())
            names = frozen_base(backbone)
            if names:
                leave_out_base(weights, names, make_record(backbone, names), 'backbone.')
            sizes = [size(weights, folder, half) for half in (False, True)]
            rows.append((tuned, config.name.split('_')[0], base, *sizes))
            progress.update()
    print(
        '\n\n| method | tuned, head included | share of the backbone | float32 MiB | float16 MiB |'
    )
    print('|---|---|---|---|---|')
    for tuned, method, base, single, half in sorted(rows):
        share = f'{tuned / base:.1%}'
        print(f'| `{method}` | {tuned / 1e6:.2f}M | {share} | {single:.1f} | {half:.1f} |')


if __name__ == '__main__':
    main()
