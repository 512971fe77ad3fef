"""Fold the trained top-down module of a checkpoint for inference: faster, with the same outputs.

python tools/model_converters/fold.py work_dirs/JOB/epoch_20.pth folded.pth
python tools/test.py configs/JOB.py folded.pth
"""

from __future__ import annotations

import argparse
import os.path as osp
import sys

import torch
from mmengine.runner import CheckpointLoader

from toast_mm.checkpoint import CheckpointError
from toast_mm.checkpoint.finite import check_finite
from toast_mm.files import WriteError, atomic_write, save_safetensors
from toast_mm.models.backbones.folding import fold_state_dict
from toast_mm.outputs import add_overwrite, check_free


def fold(source: str, target: str) -> None:
    """Write the folded weights of ``source``, and what its ``meta`` says, to ``target``."""
    checkpoint = CheckpointLoader.load_checkpoint(source, map_location='cpu')
    weights = checkpoint.get('state_dict', checkpoint)
    check_finite(weights, source)
    try:
        weights = fold_state_dict(weights)
    except CheckpointError as error:
        raise CheckpointError(f'{source}: {error}') from error
    meta = checkpoint.get('meta', {})
    if target.endswith('.safetensors'):
        if not source.endswith('.safetensors'):  # of a training: settings, seed and environment
            meta = {name: meta[name] for name in meta if name == 'dataset_meta'}
        save_safetensors(weights, target, meta)
    else:
        with atomic_write(target) as partial:
            torch.save(dict(state_dict=weights, meta=meta), partial)
    print(f'{target}: {len(weights)} tensors, {osp.getsize(target) / 2**20:.2f} MiB')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('source', help='checkpoint of a model with a top-down module')
    parser.add_argument('target', help='file to write, ending in .pth or .safetensors')
    add_overwrite(parser)
    args = parser.parse_args()
    if not args.target.endswith(('.pth', '.safetensors')):
        parser.error(f'{args.target} must end in .pth or .safetensors')
    try:
        check_free([args.target], [args.source], args.overwrite)
        fold(args.source, args.target)
    except (CheckpointError, FileNotFoundError, WriteError) as error:
        sys.exit(str(error))


if __name__ == '__main__':
    main()
