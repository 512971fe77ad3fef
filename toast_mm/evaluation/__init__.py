from toast_mm.imports import quiet_imports

with quiet_imports():
    from .attention_inside import AttentionInside
    from .layer_accuracy import LayerAccuracy
    from .pixel_confusion import PixelConfusionMatrix

__all__ = ['AttentionInside', 'LayerAccuracy', 'PixelConfusionMatrix']
