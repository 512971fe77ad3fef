"""ConvNeXt (v1 or v2) of its authors or of timm as a checkpoint of mmpretrain's ConvNeXt.

python tools/model_converters/convnext2mm.py convnext_base_1k_224.pth checkpoints/convnext-b.pth
"""

import argparse

from toast_mm.conversion import convert_convnext
from toast_mm.conversion.cli import add_files, run
from toast_mm.conversion.reference import build_timm


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_files(parser)
    parser.add_argument(
        '--timm',
        metavar='NAME',
        help="what timm calls the model: its features and the converted model's are compared",
    )
    run(parser, lambda weights, _, args: convert_convnext(weights, build_timm(args.timm)))


if __name__ == '__main__':
    main()
