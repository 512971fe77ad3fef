from .layer_accuracy import LayerAccuracy
from .protocol import Outcome, Task, run_protocol, validate_on_test_data
from .sweep import Run, run_all

__all__ = [
    'LayerAccuracy',
    'Outcome',
    'Run',
    'Task',
    'run_all',
    'run_protocol',
    'validate_on_test_data',
]
