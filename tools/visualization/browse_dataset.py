"""Draw samples of a data set as the model gets them: augmented, with class or mask.

Every sample is a picture by mmpretrain's or mmseg's visualizer. --original draws the images as they
are in their files. Images of many bands are shown by three of them.

Example:
    python tools/visualization/browse_dataset.py configs/ade20k_toast_upernet.py --samples 20
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmpretrain.visualization import UniversalVisualizer
from mmseg.visualization import SegLocalVisualizer

from toast_mm.command_line import argument_parser, load_config
from toast_mm.datasets.samplers import drawing
from toast_mm.engine.bands import band_loader, rgb_image
from toast_mm.engine.explain import explained
from toast_mm.files import atomic_write, make_folder
from toast_mm.outputs import add_overwrite, check_free
from toast_mm.registry import type_name
from toast_mm.samples import (
    add_samples,
    check_samples,
    choose_samples,
    split_dataset,
)
from toast_mm.seeding import seed_everything

SIDE = 256  # of the shorter side of a classified image, in pixels, so that its class is legible
KEPT = ('Load', 'Pack')  # beginnings of the names of transforms that --original keeps


def parse_args() -> argparse.Namespace:
    parser = argument_parser(__doc__.splitlines()[0])
    add_samples(parser, ('train', 'val', 'test'), 'train')
    parser.add_argument('--original', action='store_true', help='images as they are in their files')
    parser.add_argument('--seed', type=int, default=0, help='of the augmentation; default: 0')
    parser.add_argument(
        '--out-dir', '--output-dir', help='folder for pictures; WORK_DIR/browse_<split>'
    )
    add_overwrite(parser)
    args = parser.parse_args()
    check_samples(parser, args)
    if args.seed < 0:
        parser.error(f'--seed {args.seed} must be at least 0')
    return args


def datasets(part: Any) -> Iterator[Any]:
    """Configs of the data sets in a config of one, below wrappers."""
    for below in [*(part.get('datasets') or ()), part.get('dataset')]:
        if below is not None:
            yield from datasets(below)
    yield part


def keep_original(cfg: Config, split: str) -> None:
    """Leave only the transforms that load and pack."""
    for part in datasets(cfg.get(f'{split}_dataloader') or {}):
        if part.get('pipeline'):
            part.pipeline = [step for step in part.pipeline if type_name(step).startswith(KEPT)]


def preprocessor_of(cfg: Config) -> Any:
    """The data preprocessor of a config, or None."""
    settings = (cfg.get('model') or {}).get('data_preprocessor') or cfg.get('data_preprocessor')
    if settings is None:
        return None
    kind = dict(
        type='SegDataPreProcessor' if cfg.get('default_scope') == 'mmseg' else 'ClsDataPreprocessor'
    )
    return MODELS.build({**kind, **settings})


def draw(image: np.ndarray, sample: Any, dataset: Any, path: str) -> None:
    """Write the picture of a sample."""
    segmented = 'gt_sem_seg' in sample
    visualizer = SegLocalVisualizer(alpha=0.6) if segmented else UniversalVisualizer()
    visualizer.dataset_meta = dataset.metainfo
    image = np.ascontiguousarray(image.clip(0, 255).astype(np.uint8))
    if segmented:
        visualizer.add_datasample('', image, sample, draw_pred=False, out_file=path)
    else:
        size = max(SIDE, min(image.shape[:2]))
        visualizer.visualize_cls(image, sample, draw_pred=False, resize=size, out_file=path)


def main() -> None:
    args = parse_args()
    try:
        cfg = load_config(args)
        folder = Path(args.out_dir or Path(cfg.work_dir, f'browse_{args.split}'))
        if args.original:
            keep_original(cfg, args.split)
        init_default_scope(cfg.get('default_scope', 'mmengine'))
        with explained(cfg):
            dataset = split_dataset(cfg, args.split)
            preprocessor = preprocessor_of(cfg)
        indices = choose_samples(args, len(dataset))
        paths = {index: folder / f'{index:06}.png' for index in indices}
        check_free(paths.values(), [args.config], args.overwrite, new_folders=True)
        make_folder(folder)
        for index, path in paths.items():
            seed_everything(args.seed, index)
            with explained(cfg), drawing((args.seed, index)):
                packed = dataset[index]
            image = rgb_image(packed['inputs'], preprocessor, band_loader(dataset))
            with atomic_write(str(path)) as partial:
                draw(image, packed['data_samples'], dataset, partial)
    except (ImportError, ValueError, OSError) as error:
        sys.exit(str(error))
    print(f'{folder} shows {", ".join(map(str, paths))} of the {args.split} set, of {len(dataset)}')


if __name__ == '__main__':
    main()
