from .dump import DumpPredictions
from .hooks import (
    BestLayerHook,
    DataCheckHook,
    FirstPassCacheHook,
    MeanTokenInitHook,
    PretunedHook,
    SteeringHealthHook,
    StepSeedHook,
)
from .optim import BFloat16OptimWrapper, TunedOptimWrapperConstructor
from .parameters import parameter_table
from .runner import Runner

__all__ = [
    'BFloat16OptimWrapper',
    'BestLayerHook',
    'DataCheckHook',
    'DumpPredictions',
    'FirstPassCacheHook',
    'MeanTokenInitHook',
    'PretunedHook',
    'Runner',
    'SteeringHealthHook',
    'StepSeedHook',
    'TunedOptimWrapperConstructor',
    'parameter_table',
]
