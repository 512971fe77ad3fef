"""Inference: several tasks on one backbone, and the jobs of this package by their names."""

from toast_mm.imports import quiet_imports

with quiet_imports():
    from . import model_index
    from .multi_task import MultiTask

__all__ = ['MultiTask', 'model_index']
