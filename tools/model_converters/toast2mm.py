"""Convert a checkpoint of the published TOAST code: TOAST, TOAST-Lite, LoRA or VPT.

python tools/model_converters/toast2mm.py toast_base.pth checkpoints/toast_vit-b16.pth
python tools/model_converters/toast2mm.py lite.pth checkpoints/lite.pth --pretuned toast_base.pth
"""

import argparse
import sys

from convert_file import add_files, convert_file

from toast_mm.checkpoint import CheckpointError
from toast_mm.checkpoint.convert import convert_toast
from toast_mm.checkpoint.convert.read import read_weights
from toast_mm.files import WriteError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_files(parser)
    told = parser.add_mutually_exclusive_group()
    told.add_argument(
        '--merged',
        action='store_const',
        const=True,
        help='the low-rank updates are merged into the weights (saved in evaluation mode)',
    )
    told.add_argument(
        '--unmerged',
        dest='merged',
        action='store_const',
        const=False,
        help='the updates are not merged (saved in training mode)',
    )
    told.add_argument(
        '--pretuned',
        metavar='FILE',
        help='file that the tuning started from, which shows whether they are merged',
    )
    args = parser.parse_args()
    try:
        convert_file(
            args,
            lambda weights, _: convert_toast(
                weights, args.merged, read_weights(args.pretuned)[0] if args.pretuned else None
            ),
        )
    except (CheckpointError, FileNotFoundError, WriteError) as error:
        sys.exit(str(error))


if __name__ == '__main__':
    main()
