from .best_layer_hook import BestLayerHook
from .data_check_hook import DataCheckHook
from .first_pass_cache_hook import FirstPassCacheHook
from .mean_token_init_hook import MeanTokenInitHook
from .pretuned_hook import PretunedHook
from .steering_health_hook import SteeringHealthHook
from .step_seed_hook import StepSeedHook
from .task_file_hook import TaskFileHook

__all__ = [
    'BestLayerHook',
    'DataCheckHook',
    'FirstPassCacheHook',
    'MeanTokenInitHook',
    'PretunedHook',
    'SteeringHealthHook',
    'StepSeedHook',
    'TaskFileHook',
]
