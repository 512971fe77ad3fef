"""Converting annotations into data sets that mmpretrain and mmsegmentation read.

A reader of a format returns :class:`Annotations`; :func:`convert` paints, splits and writes them.
"""

from toast_mm.conversion.classes import read_classes
from toast_mm.conversion.items import (
    Annotations,
    ConversionError,
    Item,
    Layer,
    Painted,
    Skipped,
)
from toast_mm.conversion.options import Options, add_options, options_of
from toast_mm.conversion.summary import show_progress, summary
from toast_mm.conversion.writing import Report, convert

__all__ = [
    'Annotations',
    'ConversionError',
    'Item',
    'Layer',
    'Options',
    'Painted',
    'Report',
    'Skipped',
    'add_options',
    'convert',
    'options_of',
    'read_classes',
    'show_progress',
    'summary',
]
