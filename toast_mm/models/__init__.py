from .backbones import TOASTViT
from .classifiers import PretuneClassifier
from .stems import ConvStem

__all__ = ['ConvStem', 'PretuneClassifier', 'TOASTViT']
