"""ConvNeXt (v1 or v2) of its authors or of timm as a checkpoint of mmpretrain's ConvNeXt.

python tools/model_converters/convnext2mm.py convnext_base_1k_224.pth checkpoints/convnext-b.pth
"""

import argparse

from toast_mm.conversion import convert_convnext
from toast_mm.conversion.cli import add_files, run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_files(parser)
    run(parser, lambda weights, container, args: convert_convnext(weights))


if __name__ == '__main__':
    main()
