"""Reading annotations and other data from pickle and YAML files without running code in them.

Importing this module replaces mmengine's handlers of ``.pkl``, ``.pickle``, ``.yaml`` and ``.yml``.
``BaseDataset``, ``mmengine.load`` and ``Config.fromfile`` use them.
"""

from __future__ import annotations

import codecs
import collections
import datetime
import inspect
import io
import pickle
from typing import Any

import mmengine
import numpy as np
import torch
import yaml
from mmengine.config import Config
from mmengine.fileio import PickleHandler, YamlHandler, register_handler

from toast_mm.trust import WAY_OUT, UntrustedFileError, is_trusted

try:
    from yaml import CSafeLoader as SafeLoader
except ImportError:  # PyYAML without libyaml
    from yaml import SafeLoader

_multiarray = (np._core if hasattr(np, '_core') else np.core).multiarray
_numeric = (np._core if hasattr(np, '_core') else np.core).numeric


# Our own functions in place of PyTorch's and numpy's, since a pickle may set attributes of the
# functions that it names.
def _frombuffer(*args: Any) -> np.ndarray:
    return _numeric._frombuffer(*args)


def _rebuild_tensor(*args: Any) -> torch.Tensor:
    return torch._utils._rebuild_tensor_v2(*args)


def _load_storage(content: bytes) -> Any:
    """Load a storage safely; PyTorch's own function would unpickle anything."""
    return torch.load(io.BytesIO(content), weights_only=True)


# Types and functions that plain data need, by the names that pickles use.
_PLAIN: dict[tuple[str, str], Any] = {
    **{
        (module, kind.__name__): kind
        for module in ('builtins', '__builtin__')  # Python 3, Python 2
        for kind in (
            *(bool, int, float, complex, str, bytes, bytearray),
            *(list, tuple, dict, set, frozenset, slice, range),
        )
    },
    **{
        ('collections', kind.__name__): kind
        for kind in (collections.OrderedDict, collections.defaultdict)
    },
    **{
        ('datetime', kind.__name__): kind
        for kind in (datetime.date, datetime.datetime, datetime.timedelta, datetime.timezone)
    },
    ('_codecs', 'encode'): codecs.encode,
    ('numpy', 'ndarray'): np.ndarray,
    ('numpy', 'dtype'): np.dtype,
    **{
        (f'numpy.{core}.{name}', function.__name__): function
        for core in ('core', '_core')  # numpy 1, numpy 2
        for name, function in (
            ('multiarray', _multiarray._reconstruct),
            ('multiarray', _multiarray.scalar),
            ('numeric', _frombuffer),
        )
    },
    ('torch', 'Size'): torch.Size,
    ('torch', 'device'): torch.device,
    ('torch._utils', '_rebuild_tensor_v2'): _rebuild_tensor,
    ('torch.storage', '_load_from_bytes'): _load_storage,
    **{('torch', str(d).split('.')[1]): d for d in vars(torch).values() if type(d) is torch.dtype},
}


class _Unpickler(pickle.Unpickler):
    """Unpickler of containers, numbers, arrays and tensors; anything else is an error."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _PLAIN:
            raise UntrustedFileError(
                f'{_file_being_read()} is refused: reading it would run the code of '
                f'{module}.{name}. Save it as lists, dicts, numbers and arrays; or {WAY_OUT}'
            )
        return _PLAIN[module, name]


class _Loader(SafeLoader):
    """YAML's safe loader, extended by the tuples that mmengine writes."""

    def construct_python_tuple(self, node: yaml.Node) -> tuple:
        return tuple(self.construct_sequence(node))


_Loader.add_constructor('tag:yaml.org,2002:python/tuple', _Loader.construct_python_tuple)


@register_handler(['pkl', 'pickle'])
class SafePickleHandler(PickleHandler):
    """mmengine's handler of pickles, for plain data.

    Raises:
        UntrustedFileError: The file holds something else; see :func:`toast_mm.trust.trusted`.
    """

    def load_from_fileobj(self, file: Any, **kwargs: Any) -> Any:
        """Read an open file."""
        if is_trusted():
            return super().load_from_fileobj(file, **kwargs)
        return _Unpickler(file, **kwargs).load()


@register_handler(['yaml', 'yml'])
class SafeYamlHandler(YamlHandler):
    """mmengine's handler of YAML, for plain data.

    Raises:
        UntrustedFileError: The file holds something else; see :func:`toast_mm.trust.trusted`.
    """

    def load_from_fileobj(self, file: Any, **kwargs: Any) -> Any:
        """Read an open file."""
        if is_trusted():
            return super().load_from_fileobj(file, **kwargs)
        kwargs.setdefault('Loader', _Loader)
        try:
            return super().load_from_fileobj(file, **kwargs)
        except yaml.constructor.ConstructorError as error:
            if 'tag:yaml.org,2002:python/' not in str(error.problem):
                raise
            tag = str(error.problem).split('tag:yaml.org,2002:')[1].split("'")[0]
            raise UntrustedFileError(
                f'{_file_being_read()} is refused: reading it would run the code of !!{tag}. '
                f'Write plain YAML (lists, mappings, numbers, strings); or {WAY_OUT}'
            ) from None


def _file_being_read() -> str:
    """Name of the file that mmengine is reading, which it does not pass to handlers."""
    names = {mmengine.load.__code__: 'file', Config._file2dict.__code__: 'filename'}
    found: Any = 'the file'
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_code in names:
            found = frame.f_locals[names.pop(frame.f_code)]
        frame = frame.f_back
    return str(getattr(found, 'name', found))
