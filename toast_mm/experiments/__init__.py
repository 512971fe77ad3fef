"""Many trainings and tables of their results. Nothing else in the package imports this."""

from .protocol import Outcome, Task, run_protocol, validate_on_test_data
from .sweep import Run, run_all

__all__ = ['Outcome', 'Run', 'Task', 'run_all', 'run_protocol', 'validate_on_test_data']
