"""Python interface: tuning, predictions, several tasks on one backbone, jobs of this package."""

from toast_mm.imports import quiet_imports

with quiet_imports():
    from toast_mm.jobs import job_config

    from . import model_index
    from .attention import Attention
    from .fit import fit
    from .loading import load
    from .multi_task import MultiTask
    from .predictor import Predictor
    from .result_list import Results
    from .results import Classification, Segmentation
    from .tasks import Tasks

__all__ = [
    'Attention',
    'Classification',
    'MultiTask',
    'Predictor',
    'Results',
    'Segmentation',
    'Tasks',
    'fit',
    'job_config',
    'load',
    'model_index',
]
