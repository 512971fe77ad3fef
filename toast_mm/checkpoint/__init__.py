"""Checkpoints: read safely, and checked against what they are loaded into.

The modules that backbones import (``base``, ``pretuned``, ``complete``) are not imported here.
"""

from toast_mm.trust import trusted

from .coverage import check_fit, part_is_wanted
from .io import (
    WEIGHTS,
    CheckpointError,
    load_from_http,
    load_from_hub,
    load_from_local,
    load_from_package,
    read_torch,
)

__all__ = [
    'WEIGHTS',
    'CheckpointError',
    'check_fit',
    'load_from_http',
    'load_from_hub',
    'load_from_local',
    'load_from_package',
    'part_is_wanted',
    'read_torch',
    'trusted',
]
