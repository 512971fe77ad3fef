"""Jobs on your own data: a short config from a backbone, data and a method."""

from toast_mm.imports import quiet_imports

with quiet_imports():
    from .bases import base_names
    from .layouts import read_layout
    from .methods import method_names
    from .own_data import DataError, OwnData
    from .writing import job_config, job_name

__all__ = [
    'DataError',
    'OwnData',
    'base_names',
    'job_config',
    'job_name',
    'method_names',
    'read_layout',
]
