"""Weights of a checkpoint as a small safetensors file, without the state of the training.

python tools/model_converters/export_weights.py work_dirs/JOB/epoch_60.pth OUT.safetensors --half
"""

from __future__ import annotations

import argparse
import os.path as osp
import sys

from mmengine.runner import CheckpointLoader

from toast_mm.checkpoint import CheckpointError
from toast_mm.files import WriteError, save_safetensors


def export(source: str, target: str, half: bool) -> None:
    """Write the weights of ``source`` to ``target``, floating point ones in float16 if ``half``.

    What the metadata of a safetensors file say is kept.
    """
    checkpoint = CheckpointLoader.load_checkpoint(source, map_location='cpu')
    weights = checkpoint.get('state_dict', checkpoint)
    if half:
        weights = {
            name: tensor.half() if tensor.is_floating_point() else tensor
            for name, tensor in weights.items()
        }
    meta = checkpoint.get('meta', {}) if source.endswith('.safetensors') else {}
    save_safetensors(weights, target, meta)
    size = osp.getsize(target) / 2**20
    print(f'{target}: {len(weights)} tensors, {size:.2f} MiB')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('source', help='checkpoint file')
    parser.add_argument('target', help='file to write, ending in .safetensors')
    parser.add_argument('--half', action='store_true', help='store floating point as float16')
    args = parser.parse_args()
    if not args.target.endswith('.safetensors'):
        parser.error(f'{args.target} must end in .safetensors')
    try:
        export(args.source, args.target, args.half)
    except (CheckpointError, FileNotFoundError, WriteError) as error:
        sys.exit(str(error))


if __name__ == '__main__':
    main()
