from toast_mm.imports import quiet_imports

with quiet_imports():
    from .backbones import FrozenBackbone, TOASTConvNeXt, TOASTTimm, TOASTViT
    from .band_preprocessors import BandClsDataPreprocessor, BandSegDataPreProcessor
    from .classifiers import PretuneClassifier
    from .data_preprocessors import TimmClsDataPreprocessor, TimmSegDataPreProcessor
    from .heads import InCADecodeHead, InCAHead, LinearDecodeHead
    from .peft.adaptformer import AdaptFormer
    from .peft.hugging_face import PEFT
    from .peft.lora import LoRA
    from .peft.partial import BitFit, Partial
    from .peft.ssf import SSF
    from .peft.vpt import VPT
    from .stems import ConvStem

__all__ = [
    'PEFT',
    'SSF',
    'VPT',
    'AdaptFormer',
    'BandClsDataPreprocessor',
    'BandSegDataPreProcessor',
    'BitFit',
    'ConvStem',
    'FrozenBackbone',
    'InCADecodeHead',
    'InCAHead',
    'LinearDecodeHead',
    'LoRA',
    'Partial',
    'PretuneClassifier',
    'TOASTConvNeXt',
    'TOASTTimm',
    'TOASTViT',
    'TimmClsDataPreprocessor',
    'TimmSegDataPreProcessor',
]
