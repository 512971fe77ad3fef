from .frozen import FrozenBackbone
from .timm_models import TOASTTimm
from .timm_stages import TOASTTimmStages
from .timm_tokens import TOASTTimmTokens
from .toast_convnext import TOASTConvNeXt
from .toast_vit import TOASTViT

__all__ = [
    'FrozenBackbone',
    'TOASTConvNeXt',
    'TOASTTimm',
    'TOASTTimmStages',
    'TOASTTimmTokens',
    'TOASTViT',
]
