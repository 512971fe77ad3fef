"""Export of models to other runtimes."""

from .onnx import Deployable, export_onnx

__all__ = ['Deployable', 'export_onnx']
