from toast_mm.imports import quiet_imports

with quiet_imports():
    from .backbones import FrozenBackbone, TOASTConvNeXt, TOASTViT
    from .classifiers import PretuneClassifier
    from .heads import InCADecodeHead, InCAHead
    from .methods import SSF, VPT, AdaptFormer, BitFit, LoRA, Partial
    from .stems import ConvStem

__all__ = [
    'SSF',
    'VPT',
    'AdaptFormer',
    'BitFit',
    'ConvStem',
    'FrozenBackbone',
    'InCADecodeHead',
    'InCAHead',
    'LoRA',
    'Partial',
    'PretuneClassifier',
    'TOASTConvNeXt',
    'TOASTViT',
]
