"""Checkpoint of the published TOAST code as one of this project: ViT or ConvNeXt, Lite or not.

python tools/model_converters/toast2mm.py toast_base.pth checkpoints/toast_vit-b16.pth
"""

import argparse

from toast_mm.conversion import convert_toast
from toast_mm.conversion.cli import add_files, run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_files(parser)
    run(parser, lambda weights, container, args: convert_toast(weights))


if __name__ == '__main__':
    main()
