"""Converters of published checkpoints to the parameter names of mmpretrain and toast_mm."""

from toast_mm.imports import quiet_imports

with quiet_imports():
    from .convnext import convert_convnext
    from .efficientnet_lite import convert_efficientnet_lite
    from .report import Converted
    from .toast import convert_toast
    from .vit import convert_vit

__all__ = [
    'Converted',
    'convert_convnext',
    'convert_efficientnet_lite',
    'convert_toast',
    'convert_vit',
]
