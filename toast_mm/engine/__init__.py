from toast_mm.imports import quiet_imports

with quiet_imports():
    from .dump import DumpPredictions
    from .hooks import (
        BestLayerHook,
        CheckpointHook,
        DataCheckHook,
        EarlyStoppingHook,
        FiniteCheckHook,
        FirstPassCacheHook,
        MeanTokenInitHook,
        NotFiniteError,
        PretunedHook,
        ResumeHook,
        SteeringHealthHook,
        StepSeedHook,
        VisualizationHook,
    )
    from .optim import BFloat16OptimWrapper, TunedOptimWrapperConstructor
    from .parameters import parameter_table
    from .runner import Runner

__all__ = [
    'BFloat16OptimWrapper',
    'BestLayerHook',
    'CheckpointHook',
    'DataCheckHook',
    'DumpPredictions',
    'EarlyStoppingHook',
    'FiniteCheckHook',
    'FirstPassCacheHook',
    'MeanTokenInitHook',
    'NotFiniteError',
    'PretunedHook',
    'ResumeHook',
    'Runner',
    'SteeringHealthHook',
    'StepSeedHook',
    'TunedOptimWrapperConstructor',
    'VisualizationHook',
    'parameter_table',
]
