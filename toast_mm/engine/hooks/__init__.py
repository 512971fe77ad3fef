from .data_check_hook import DataCheckHook
from .step_seed_hook import StepSeedHook

__all__ = ['DataCheckHook', 'StepSeedHook']
