"""Inference with several tasks on one backbone."""

from .multi_task import MultiTask

__all__ = ['MultiTask']
