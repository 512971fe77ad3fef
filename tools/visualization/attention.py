"""Draw what models attend to: the selection mask, and the attention in both passes.

Several models can be compared, such as a linear probe, LoRA and TOAST. A network without attention
shows the energy of its features instead.

Example:
    python tools/visualization/attention.py configs/ade20k_toast_upernet.py \
        work_dirs/ade20k_toast_upernet/iter_160000.pth photos/street.jpg --out attention.png
"""

from __future__ import annotations

import argparse
import os
import os.path as osp
import sys
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import torch
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope

from toast_mm.apis import Predictor, load
from toast_mm.apis.pictures import list_pictures
from toast_mm.checkpoint import CheckpointError
from toast_mm.command_line import argument_parser, is_file, load_config
from toast_mm.engine.views import view_of
from toast_mm.outputs import add_overwrite, check_free
from toast_mm.samples import add_samples, check_samples, choose_samples, split_dataset
from toast_mm.visualization import Row, View, draw_picture, save_picture


def parse_args() -> argparse.Namespace:
    parser = argument_parser(__doc__.splitlines()[0])
    parser.add_argument('checkpoint', help='checkpoint file of the whole model')
    parser.add_argument(
        'images',
        nargs='*',
        help='image files, or folders of images; without any, samples of the data set',
    )
    parser.add_argument(
        '--compare',
        nargs=2,
        action='append',
        default=[],
        metavar=('CONFIG', 'CHECKPOINT'),
        help='another model beside it; may be given several times',
    )
    parser.add_argument(
        '--blocks',
        type=int,
        nargs='+',
        help='blocks or stages to draw; negative numbers count from the end; default: the last one '
        'that runs in both passes',
    )
    parser.add_argument('--heads', action='store_true', help='draw every head, not their mean')
    parser.add_argument('--difference', action='store_true', help='draw second minus first pass')
    add_samples(parser, ('val', 'test'), 'test')
    parser.add_argument(
        '--out', metavar='FILE', help='picture, a .png; work_dirs/<config name>/attention.png'
    )
    add_overwrite(parser)
    args = parser.parse_intermixed_args()
    for path in (args.checkpoint, *(checkpoint for _, checkpoint in args.compare)):
        if not is_file(path):
            parser.error(f'checkpoint {path} does not exist')
    check_samples(parser, args)
    if args.images and args.indices:
        parser.error('--indices are numbers in the data set: leave out these or the images')
    if args.out and not args.out.endswith('.png'):
        parser.error(f'--out {args.out} must end with .png')
    return args


@torch.no_grad()
def look(
    predictor: Predictor, packed: Mapping[str, Any], classes: Sequence[str], **shown: Any
) -> View:
    """Prediction and attention maps of a sample."""
    view = view_of(predictor.model, packed, predictor.preparation.loader, **shown)
    (result,) = predictor.model.test_step(pseudo_collate([packed]))
    if predictor.is_segmentor:
        view.labels = result.pred_sem_seg.data[0].cpu().numpy()
    else:
        name, score = classes[result.pred_label.item()], result.pred_score.max()
        view.caption = f'predicted {name} ({score:.0%})'
    return view


def label(row: Row, sample: Any, classes: Sequence[str]) -> None:
    """Add the truth to a row, or the name of the file."""
    if 'gt_sem_seg' in sample:
        row.truth = sample.gt_sem_seg.data[0].numpy()
    elif 'gt_label' in sample:
        row.caption = classes[sample.gt_label.item()]
    else:
        row.caption = osp.basename(sample.img_path)


def main() -> None:
    args = parse_args()
    try:
        cfg = load_config(args)
        out = args.out or osp.join(cfg.work_dir, 'attention.png')
        inputs = [args.config, args.checkpoint, *chain(*args.compare)]
        check_free([out], inputs, args.overwrite, new_folders=True)
        models = [load(cfg, args.checkpoint), *(load(*pair) for pair in args.compare)]
        prepare, classes, palette = models[0].preparation, models[0].classes, models[0].palette
        if args.images:
            paths = list_pictures(args.images, prepare.suffixes)
            indices = choose_samples(args, len(paths))
            samples = [prepare(paths[index]).packed for index in indices]
            shown = ', '.join(paths[index] for index in indices)
        else:
            init_default_scope(cfg.get('default_scope', 'mmengine'))
            dataset = split_dataset(cfg, args.split)
            indices = choose_samples(args, len(dataset))
            samples = [dataset[index] for index in indices]
            classes = dataset.metainfo.get('classes') or classes
            palette = dataset.metainfo.get('palette') or palette
            shown = f'{", ".join(map(str, indices))} of the {args.split} set'
        rows = []
        for packed in samples:
            views = [look(models[0], packed, classes, blocks=args.blocks, heads=args.heads)]
            path, blocks = packed['data_samples'].img_path, list(views[0].maps)
            for model in models[1:]:
                packed_for = model.preparation(path).packed
                views.append(look(model, packed_for, classes, blocks=blocks, heads=args.heads))
            rows.append(Row(views))
            label(rows[-1], packed['data_samples'], classes)
        os.makedirs(osp.dirname(osp.abspath(out)), exist_ok=True)
        save_picture(draw_picture(rows, classes, palette, args.difference), out)
    except (CheckpointError, ValueError, OSError) as error:
        sys.exit(str(error))
    print(f'{out} shows {shown}')


if __name__ == '__main__':
    main()
