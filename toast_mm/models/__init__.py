from .backbones import TOASTViT

__all__ = ['TOASTViT']
