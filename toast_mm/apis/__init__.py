"""Python interface: predictions, several tasks on one backbone, jobs of this package by name."""

from toast_mm.imports import quiet_imports

with quiet_imports():
    from . import model_index
    from .attention import Attention
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
    'load',
    'model_index',
]
