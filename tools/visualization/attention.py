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

import torch
from mmengine.dataset import pseudo_collate
from torch import nn

from toast_mm.checkpoint import CheckpointError
from toast_mm.command_line import argument_parser, is_file, load_config
from toast_mm.datasets import LoadBandsFromFile
from toast_mm.engine.bands import band_loader
from toast_mm.engine.model import load_model
from toast_mm.outputs import add_overwrite, check_free
from toast_mm.samples import (
    add_samples,
    check_samples,
    choose_samples,
    rgb_image,
    split_dataset,
)
from toast_mm.visualization import Row, attention_maps, draw_picture


def parse_args() -> argparse.Namespace:
    parser = argument_parser(__doc__.splitlines()[0])
    parser.add_argument('checkpoint', help='checkpoint file of the whole model')
    add_samples(parser, ('val', 'test'), 'test')
    parser.add_argument(
        '--out', metavar='FILE', help='picture, a .png; work_dirs/<config name>/attention.png'
    )
    add_overwrite(parser)
    args = parser.parse_args()
    if not is_file(args.checkpoint):
        parser.error(f'checkpoint {args.checkpoint} does not exist')
    check_samples(parser, args)
    if args.out and not args.out.endswith('.png'):
        parser.error(f'--out {args.out} must end with .png')
    return args


@torch.no_grad()
def look(
    model: nn.Module, sample: dict, classes: list[str], loader: LoadBandsFromFile | None
) -> Row:
    """Image, prediction and attention maps of a sample."""
    batch = pseudo_collate([sample])
    preprocessor = model.data_preprocessor
    (maps,) = attention_maps(model.backbone, preprocessor(batch, False)['inputs']).values()
    if maps.mask is None:
        raise ValueError(
            'a picture of two passes needs a backbone with a top-down module (feedback_from set); '
            f'this {type(model.backbone).__name__} has none'
        )
    maps, image = maps.mean(), rgb_image(batch['inputs'][0], preprocessor, loader)
    panels = (panel.flatten(0, -3)[0].numpy() for panel in (maps.mask, maps.first, maps.second))
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
        dataset = split_dataset(cfg, args.split)
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
