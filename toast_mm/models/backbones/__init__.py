from .frozen import FrozenBackbone
from .toast_convnext import TOASTConvNeXt
from .toast_vit import TOASTViT

__all__ = ['FrozenBackbone', 'TOASTConvNeXt', 'TOASTViT']
