from .toast_vit import TOASTViT

__all__ = ['TOASTViT']
