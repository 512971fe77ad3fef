"""Draw the selection mask and the attention of a TOAST model in both passes.

A network without attention shows the energy of its features instead.

Example:
    python tools/visualization/attention.py configs/ade20k_toast_upernet.py \
        work_dirs/ade20k_toast_upernet/iter_160000.pth --samples 4 --out attention.png
"""

from __future__ import annotations

import argparse
import os
import os.path as osp
import sys

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from torch import nn
from torch.utils.data import Dataset

from toast_mm.checkpoint import CheckpointError
from toast_mm.command_line import argument_parser, is_file, load_config
from toast_mm.datasets import LoadBandsFromFile
from toast_mm.engine import Runner
from toast_mm.engine.bands import band_loader
from toast_mm.engine.model import load_model
from toast_mm.outputs import add_overwrite, check_free
from toast_mm.visualization import Row, attention_maps, draw_picture


def parse_args() -> argparse.Namespace:
    parser = argument_parser(__doc__.splitlines()[0])
    parser.add_argument('checkpoint', help='checkpoint file of the whole model')
    parser.add_argument('--split', choices=['val', 'test'], default='test', help='default: test')
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        '--samples',
        type=int,
        default=6,
        metavar='N',
        help='number of samples, evenly spread; default: 6',
    )
    which.add_argument('--indices', type=int, nargs='+', metavar='INDEX', help='these samples')
    parser.add_argument(
        '--out', metavar='FILE', help='picture, a .png; work_dirs/<config name>/attention.png'
    )
    add_overwrite(parser)
    args = parser.parse_args()
    if not is_file(args.checkpoint):
        parser.error(f'checkpoint {args.checkpoint} does not exist')
    if args.samples < 1:
        parser.error(f'--samples {args.samples} must be at least 1')
    if args.out and not args.out.endswith('.png'):
        parser.error(f'--out {args.out} must end with .png')
    return args


def build_dataset(cfg: Config, split: str) -> Dataset:
    loader = cfg.get(f'{split}_dataloader')
    if loader is None:
        sys.exit(f'--split {split}: the config has no {split}_dataloader')
    loader.update(num_workers=0, persistent_workers=False)
    return Runner.build_dataloader(loader, seed=0).dataset


def choose_samples(args: argparse.Namespace, number: int) -> list[int]:
    if args.indices is None:
        return np.linspace(0, number - 1, min(args.samples, number)).round().astype(int).tolist()
    if outside := [index for index in args.indices if not 0 <= index < number]:
        sys.exit(
            f'--indices {outside[0]}: the {args.split} set has {number} samples, 0..{number - 1}'
        )
    return args.indices


@torch.no_grad()
def look(
    model: nn.Module, sample: dict, classes: list[str], loader: LoadBandsFromFile | None
) -> Row:
    """Image, prediction and attention maps of a sample."""
    batch = pseudo_collate([sample])
    preprocessor = model.data_preprocessor
    maps = attention_maps(model.backbone, preprocessor(batch, False)['inputs'])
    image = batch['inputs'][0].permute(1, 2, 0).numpy()
    # mmpretrain and mmseg name the conversion from BGR to RGB differently.
    converts = any(getattr(preprocessor, n, False) for n in ('to_rgb', '_channel_conversion'))
    if loader is not None:
        image = loader.to_rgb(image)
    elif converts:
        image = image[..., ::-1]
    panels = (panel[0].numpy() for panel in (maps.mask, maps.first, maps.second))
    row = Row(image, *panels, what=maps.what)
    result = model.test_step(batch)[0]
    if 'pred_sem_seg' in result:
        row.labels = tuple(s.data[0].numpy() for s in (result.gt_sem_seg, result.pred_sem_seg))
    else:
        truth, predicted = (classes[n.item()] for n in (result.gt_label, result.pred_label))
        row.caption = f'{truth}, predicted {predicted} ({result.pred_score.max():.0%})'
    return row


def main() -> None:
    args = parse_args()
    try:
        cfg = load_config(args)
        out = args.out or osp.join(cfg.work_dir, 'attention.png')
        check_free([out], [args.config, args.checkpoint], args.overwrite)
        model = load_model(cfg, args.checkpoint)  # also sets the scope that the data set needs
        dataset = build_dataset(cfg, args.split)
        indices = choose_samples(args, len(dataset))
        classes, palette = (dataset.metainfo.get(key) or () for key in ('classes', 'palette'))
        loader = band_loader(dataset)
        rows = [look(model, dataset[index], classes, loader) for index in indices]
        os.makedirs(osp.dirname(osp.abspath(out)), exist_ok=True)
        draw_picture(rows, out, classes, palette)
    except (CheckpointError, ValueError, OSError) as error:
        sys.exit(str(error))
    print(f'{out} shows {", ".join(map(str, indices))} of the {args.split} set')


if __name__ == '__main__':
    main()
