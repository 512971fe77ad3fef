"""Fold the trained top-down module of a model for inference: faster, with the same outputs.

python tools/model_converters/fold.py configs/JOB.py work_dirs/JOB/epoch_20.pth folded.pth
python tools/test.py configs/JOB.py folded.pth
"""

from __future__ import annotations

import argparse
import os.path as osp
import sys

import torch
from mmengine.runner import CheckpointLoader

from toast_mm.checkpoint import CheckpointError
from toast_mm.command_line import argument_parser, is_file, load_config
from toast_mm.engine.model import load_model, steered_backbone
from toast_mm.files import WriteError, atomic_write, save_safetensors
from toast_mm.outputs import add_overwrite, check_free


def parse_args() -> argparse.Namespace:
    parser = argument_parser(__doc__.splitlines()[0])
    parser.add_argument('checkpoint', help='checkpoint of the tuned model, or its task file')
    parser.add_argument('out', help='file to write, ending in .pth or .safetensors')
    add_overwrite(parser)
    args = parser.parse_args()
    if not is_file(args.checkpoint):
        parser.error(f'checkpoint {args.checkpoint} does not exist')
    if not args.out.endswith(('.pth', '.safetensors')):
        parser.error(f'{args.out} must end in .pth or .safetensors')
    return args


def folded_weights(args: argparse.Namespace) -> dict[str, torch.Tensor]:
    """Weights of the model with a folded top-down module.

    Raises:
        CheckpointError: The checkpoint does not fit the config, or is folded already.
        ValueError: There is no top-down module.
    """
    model = load_model(load_config(args), args.checkpoint)
    backbone = steered_backbone(model)
    if backbone is None:
        raise ValueError(f'{args.config}: there is no top-down module to fold')
    if backbone.folded:
        raise CheckpointError(f'{args.checkpoint} is folded already')
    backbone.fold()
    return model.state_dict()


def write(weights: dict[str, torch.Tensor], meta: dict, path: str, pickled: bool) -> None:
    """Write weights with the metadata of the data set; a pickle keeps all metadata."""
    if path.endswith('.safetensors'):
        if pickled:  # drop settings, seed and environment of the training
            meta = {name: meta[name] for name in meta if name == 'dataset_meta'}
        save_safetensors(weights, path, meta)
    else:
        with atomic_write(path) as partial:
            torch.save(dict(state_dict=weights, meta=meta), partial)
    print(f'{path}: {len(weights)} tensors, {osp.getsize(path) / 2**20:.2f} MiB')


def main() -> None:
    args = parse_args()
    try:
        check_free([args.out], [args.config, args.checkpoint], args.overwrite)
        weights = folded_weights(args)
        meta = CheckpointLoader.load_checkpoint(args.checkpoint, 'cpu').get('meta', {})
        write(weights, meta, args.out, not args.checkpoint.endswith('.safetensors'))
    except (CheckpointError, FileNotFoundError, ValueError, WriteError) as error:
        sys.exit(str(error))


if __name__ == '__main__':
    main()
