"""Write a checkpoint for release: weights as safetensors, without the state of the training.

A task file remains a task file: it holds what was tuned and names its base. Of the config, the file
keeps model, preprocessing and test pipeline, so that toast_mm.apis.load needs no other file. The
name of the new file ends in the first digits of its SHA-256, as for other models of mm projects.

python tools/misc/publish_model.py work_dirs/JOB/epoch_20.pth JOB.safetensors
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path

import torch
from mmengine.runner import CheckpointLoader

from toast_mm.checkpoint import CheckpointError
from toast_mm.checkpoint.adapter import in_half, read_record, record_name, relocate
from toast_mm.checkpoint.finite import check_finite
from toast_mm.engine.config import ConfigError
from toast_mm.engine.task_config import config_for_release
from toast_mm.files import WriteError, safetensors_content, write_atomically
from toast_mm.outputs import add_overwrite, check_free


def publish(
    source: str,
    target: Path,
    half: bool,
    with_hash: bool,
    base: str | None,
    pretuned: str | None,
    overwrite: bool,
) -> None:
    """Write the weights of ``source`` to ``target``, floating point ones in float16 if ``half``.

    Names of classes, what inference needs of the config, and the metadata of a safetensors file are
    kept. ``base`` and ``pretuned`` are the new places of the base and the pre-tuned module of a
    task file.

    Raises:
        CheckpointError: A weight is infinite or NaN.
        ValueError: ``base`` or ``pretuned`` is given, but the source is not a task file.
        WriteError: The release would replace a file.
    """
    checkpoint = CheckpointLoader.load_checkpoint(source, map_location='cpu')
    weights = checkpoint.get('state_dict', checkpoint)
    check_finite(weights, source)
    if half:
        full, weights = weights, in_half(weights)
        for name, tensor in weights.items():
            if not torch.equal(tensor.isfinite(), full[name].isfinite()):
                sys.exit(f'{name} has values beyond the range of float16: leave out --half')
    record = record_name(weights)
    if base or pretuned:
        if record is None:
            raise ValueError(f'{source} is not a task file: leave out --base and --pretuned')
        weights = {**weights, record: relocate(weights[record], base, pretuned)}
    meta = checkpoint.get('meta', {})
    if not source.endswith('.safetensors'):  # drop settings, seed and environment of the training
        meta = {name: meta[name] for name in meta if name in ('cfg', 'dataset_meta')}
    paths = None if record is None else read_record(weights[record])
    note = 'with the config of inference'
    try:
        meta = {**meta, 'cfg': config_for_release(meta, paths)}
    except ConfigError as error:
        meta = {name: value for name, value in meta.items() if name != 'cfg'}
        note = f'without config, which toast_mm.apis.load then needs as well: {error}'
    content = safetensors_content(weights, meta)
    if with_hash:
        digest = hashlib.sha256(content).hexdigest()[:8]
        target = target.with_name(f'{target.stem}-{digest}{target.suffix}')
    check_free([target], [source], overwrite)
    write_atomically(content, str(target))
    print(f'{target}: {len(weights)} tensors, {len(content) / 2**20:.2f} MiB, {note}')
    if paths is not None:
        files = [source['checkpoint'] for source in paths['init_cfg']]
        files += [paths['pretuned']] if paths['pretuned'] else []
        print(f'It needs its base: {" and ".join(files)}, or the files that a config names instead')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('source', help='checkpoint file')
    parser.add_argument('target', help='file to write, ending in .safetensors')
    parser.add_argument('--half', action='store_true', help='store floating point as float16')
    parser.add_argument('--no-hash', action='store_true', help='do not add the hash to the name')
    parser.add_argument('--base', help='new path or URL of the base of a task file')
    parser.add_argument('--pretuned', help='new path or URL of its pre-tuned module, if it has one')
    add_overwrite(parser)
    args = parser.parse_args()
    if not args.target.endswith('.safetensors'):
        parser.error(f'{args.target} must end in .safetensors')
    try:
        publish(
            args.source,
            Path(args.target),
            args.half,
            not args.no_hash,
            args.base,
            args.pretuned,
            args.overwrite,
        )
    except (CheckpointError, ValueError, FileNotFoundError, WriteError) as error:
        sys.exit(str(error))


if __name__ == '__main__':
    main()
