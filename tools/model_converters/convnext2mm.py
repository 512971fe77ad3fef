"""Convert a ConvNeXt (v1 or v2) of its authors or of timm to mmpretrain's ConvNeXt.

python tools/model_converters/convnext2mm.py convnext_base_1k_224.pth checkpoints/convnext-b.pth
"""

import argparse
import sys

from convert_file import add_files, convert_file

from toast_mm.checkpoint import CheckpointError
from toast_mm.checkpoint.convert import convert_convnext
from toast_mm.checkpoint.convert.reference import build_timm
from toast_mm.files import WriteError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_files(parser)
    parser.add_argument(
        '--timm',
        metavar='NAME',
        help="name of the model in timm: its features and the converted model's are compared",
    )
    args = parser.parse_args()
    try:
        convert_file(args, lambda weights, _: convert_convnext(weights, build_timm(args.timm)))
    except (CheckpointError, FileNotFoundError, WriteError) as error:
        sys.exit(str(error))


if __name__ == '__main__':
    main()
