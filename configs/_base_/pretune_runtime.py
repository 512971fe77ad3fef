"""Runtime of pre-tuning: classification that ends with a file for the argument `pretuned`."""

_base_ = './classification_runtime.py'

custom_hooks = [*_base_.custom_hooks, dict(type='toast_mm.PretunedHook')]
