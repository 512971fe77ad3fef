"""Inference with several tasks on one backbone."""

from toast_mm.imports import quiet_imports

with quiet_imports():
    from .multi_task import MultiTask

__all__ = ['MultiTask']
