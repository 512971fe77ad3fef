from toast_mm.imports import quiet_imports

with quiet_imports():
    from .layer_accuracy import LayerAccuracy

__all__ = ['LayerAccuracy']
