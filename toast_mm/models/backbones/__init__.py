from .frozen import FrozenBackbone
from .toast_convnext import TOASTConvNeXt
from .toast_timm import TOASTTimm
from .toast_vit import TOASTViT

__all__ = ['FrozenBackbone', 'TOASTConvNeXt', 'TOASTTimm', 'TOASTViT']
