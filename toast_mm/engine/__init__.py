from toast_mm.imports import quiet_imports

with quiet_imports():
    from .dump import DumpPredictions
    from .hooks import (
        AttentionHook,
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
        MetricModelHook,
        NotFiniteError,
        Preempted,
        PreemptionHook,
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
    from .sharding import FullyShardedDataParallel

__all__ = [
    'AttentionHook',
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
    'FullyShardedDataParallel',
    'MeanTokenInitHook',
    'MetricModelHook',
    'NotFiniteError',
    'Preempted',
    'PreemptionHook',
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
