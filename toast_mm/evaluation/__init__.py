from toast_mm.imports import quiet_imports

with quiet_imports():
    from .layer_accuracy import LayerAccuracy
    from .pixel_confusion import PixelConfusionMatrix

__all__ = ['LayerAccuracy', 'PixelConfusionMatrix']
