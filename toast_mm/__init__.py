"""TOAST, transfer learning by attention steering, for the packages of OpenMMLab.

Importing the package changes three things in mmengine. It reads files safely. It knows the scope
``toast_mm``, whose parts are imported when a config names one. And configs can inherit from the
configs of this package by its name.
"""

from importlib.util import find_spec

from mmengine.config.utils import MODULE2PACKAGE
from mmengine.utils import is_installed

from . import checkpoint, data_files, registry
from .version import __version__

__all__ = ['__version__', 'checkpoint', 'data_files', 'registry']

# Where `_base_ = ['toast_mm::...']` looks. mmengine takes the name of a distribution or a module.
# A module is found by its file, also in editable installations. For mmseg, mmengine only knows the
# upstream distribution; with another build (onedl-mmsegmentation) the module's name finds it.
MODULE2PACKAGE.setdefault('toast_mm', 'toast_mm.version')
for _module in ('mmseg', 'mmpretrain'):
    if not is_installed(MODULE2PACKAGE[_module]) and find_spec(_module):
        MODULE2PACKAGE[_module] = _module
