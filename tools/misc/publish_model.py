"""The release form of a checkpoint: weights as safetensors, without the state of the training.

A task file stays one: it holds what was tuned and names its base. The name ends in the beginning of
the file's SHA-256, as mm projects publish models.

python tools/misc/publish_model.py work_dirs/JOB/epoch_20.pth JOB.safetensors
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from pathlib import Path

import torch
from mmengine.runner import CheckpointLoader

from toast_mm.checkpoint import CheckpointError
from toast_mm.files import WriteError, save_safetensors


def publish(source: str, target: str, half: bool, with_hash: bool) -> None:
    """Write the weights of ``source`` to ``target``, floating point ones in float16 if ``half``.

    Names of classes, and what the metadata of a safetensors file say, are kept.
    """
    checkpoint = CheckpointLoader.load_checkpoint(source, map_location='cpu')
    weights = checkpoint.get('state_dict', checkpoint)
    if half:
        halves = {name: t.half() for name, t in weights.items() if t.is_floating_point()}
        for name, tensor in halves.items():
            if not torch.equal(tensor.isfinite(), weights[name].isfinite()):
                sys.exit(f'{name} has values beyond the range of float16: leave out --half')
        weights = {**weights, **halves}
    meta = checkpoint.get('meta', {})
    if not source.endswith('.safetensors'):  # of a training: settings, seed and environment
        meta = {name: meta[name] for name in meta if name == 'dataset_meta'}
    save_safetensors(weights, target, meta)
    path = Path(target)
    if with_hash:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
        path = path.with_name(f'{path.stem}-{digest}{path.suffix}')
        os.replace(target, path)
    print(f'{path}: {len(weights)} tensors, {path.stat().st_size / 2**20:.2f} MiB')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('source', help='checkpoint file')
    parser.add_argument('target', help='file to write, ending in .safetensors')
    parser.add_argument('--half', action='store_true', help='store floating point as float16')
    parser.add_argument(
        '--no-hash', action='store_true', help='keep the name without the beginning of the hash'
    )
    args = parser.parse_args()
    if not args.target.endswith('.safetensors'):
        parser.error(f'{args.target} must end in .safetensors')
    try:
        publish(args.source, args.target, args.half, not args.no_hash)
    except (CheckpointError, FileNotFoundError, WriteError) as error:
        sys.exit(str(error))


if __name__ == '__main__':
    main()
