"""Convert a ViT of timm, DeiT, JAX (.npz) or Hugging Face to mmpretrain's ViT.

python tools/model_converters/vit2mm.py B_16.npz checkpoints/vit-b16_in21k.pth
"""

import argparse
import sys

from convert_file import add_files, convert_file

from toast_mm.checkpoint import CheckpointError
from toast_mm.checkpoint.convert import convert_vit
from toast_mm.checkpoint.convert.reference import build_timm
from toast_mm.files import WriteError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_files(parser)
    parser.add_argument(
        '--img-size', type=int, help='resize position embeddings to images of this side'
    )
    parser.add_argument(
        '--timm',
        metavar='NAME',
        help="name of the model in timm: its features and the converted model's are compared",
    )
    args = parser.parse_args()
    try:
        convert_file(
            args,
            lambda weights, container: convert_vit(
                weights, container, args.img_size, build_timm(args.timm)
            ),
        )
    except (CheckpointError, FileNotFoundError, WriteError) as error:
        sys.exit(str(error))


if __name__ == '__main__':
    main()
