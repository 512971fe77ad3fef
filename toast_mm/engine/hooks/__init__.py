from .best_layer_hook import BestLayerHook
from .checkpoint_hook import CheckpointHook
from .data_check_hook import DataCheckHook
from .early_stopping_hook import EarlyStoppingHook
from .finite_check_hook import FiniteCheckHook, NotFiniteError
from .first_pass_cache_hook import FirstPassCacheHook
from .mean_token_init_hook import MeanTokenInitHook
from .pretuned_hook import PretunedHook
from .resume_hook import ResumeHook
from .steering_health_hook import SteeringHealthHook
from .step_seed_hook import StepSeedHook
from .task_file_hook import TaskFileHook
from .visualization_hook import VisualizationHook

__all__ = [
    'BestLayerHook',
    'CheckpointHook',
    'DataCheckHook',
    'EarlyStoppingHook',
    'FiniteCheckHook',
    'FirstPassCacheHook',
    'MeanTokenInitHook',
    'NotFiniteError',
    'PretunedHook',
    'ResumeHook',
    'SteeringHealthHook',
    'StepSeedHook',
    'TaskFileHook',
    'VisualizationHook',
]
