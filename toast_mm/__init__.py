"""TOAST, transfer learning by attention steering, for the OpenMMLab world.

Importing the package makes mmengine read files safely, tells it of the scope ``toast_mm``, whose
parts it imports when a config names one, and lets configs inherit by package name.
"""

from importlib.util import find_spec

from mmengine.config.utils import MODULE2PACKAGE
from mmengine.utils import is_installed

from . import checkpoint, data_files, registry
from .version import __version__

__all__ = ['__version__', 'checkpoint', 'data_files', 'registry']

# Where `_base_ = ['toast_mm::...']` looks. mmengine wants a distribution, or else a module: that
# one is found by its file, in editable installations as well. Of mmseg it knows the distribution
# of upstream only; under another build (onedl-mmsegmentation) the module's own name finds it.
MODULE2PACKAGE.setdefault('toast_mm', 'toast_mm.version')
for _module in ('mmseg', 'mmpretrain'):
    if not is_installed(MODULE2PACKAGE[_module]) and find_spec(_module):
        MODULE2PACKAGE[_module] = _module
