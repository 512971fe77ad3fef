from .backbones import TOASTConvNeXt, TOASTViT
from .classifiers import PretuneClassifier
from .stems import ConvStem

__all__ = ['ConvStem', 'PretuneClassifier', 'TOASTConvNeXt', 'TOASTViT']
