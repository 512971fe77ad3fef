from .dump import DumpPredictions
from .hooks import DataCheckHook, StepSeedHook
from .optim import BFloat16OptimWrapper, TunedOptimWrapperConstructor
from .parameters import parameter_table
from .runner import Runner

__all__ = [
    'BFloat16OptimWrapper',
    'DataCheckHook',
    'DumpPredictions',
    'Runner',
    'StepSeedHook',
    'TunedOptimWrapperConstructor',
    'parameter_table',
]
