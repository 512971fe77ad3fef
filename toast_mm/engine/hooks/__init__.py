from .data_check_hook import DataCheckHook
from .mean_token_init_hook import MeanTokenInitHook
from .pretuned_hook import PretunedHook
from .steering_health_hook import SteeringHealthHook
from .step_seed_hook import StepSeedHook

__all__ = [
    'DataCheckHook',
    'MeanTokenInitHook',
    'PretunedHook',
    'SteeringHealthHook',
    'StepSeedHook',
]
