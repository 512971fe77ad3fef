from toast_mm.imports import quiet_imports

with quiet_imports():
    from .dump import DumpPredictions
    from .hooks import (
        BestLayerHook,
        ChannelsLastHook,
        CheckpointHook,
        CompileHook,
        DataCheckHook,
        EarlyStoppingHook,
        EvaluationPrecisionHook,
        FiniteCheckHook,
        FirstPassCacheHook,
        MeanTokenInitHook,
        NotFiniteError,
        PretunedHook,
        ResumeHook,
        SegVisualizationHook,
        SkipBadFilesHook,
        SteeringHealthHook,
        StepSeedHook,
        TaskFileHook,
        TunedParametersHook,
        VisualizationHook,
        WriteCheckHook,
    )
    from .optim import BFloat16OptimWrapper, TunedOptimWrapperConstructor
    from .parameters import parameter_table
    from .runner import Runner

__all__ = [
    'BFloat16OptimWrapper',
    'BestLayerHook',
    'ChannelsLastHook',
    'CheckpointHook',
    'CompileHook',
    'DataCheckHook',
    'DumpPredictions',
    'EarlyStoppingHook',
    'EvaluationPrecisionHook',
    'FiniteCheckHook',
    'FirstPassCacheHook',
    'MeanTokenInitHook',
    'NotFiniteError',
    'PretunedHook',
    'ResumeHook',
    'Runner',
    'SegVisualizationHook',
    'SkipBadFilesHook',
    'SteeringHealthHook',
    'StepSeedHook',
    'TaskFileHook',
    'TunedOptimWrapperConstructor',
    'TunedParametersHook',
    'VisualizationHook',
    'WriteCheckHook',
    'parameter_table',
]
