from .layer_accuracy import LayerAccuracy

__all__ = ['LayerAccuracy']
