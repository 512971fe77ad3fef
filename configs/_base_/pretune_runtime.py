"""Runtime of pre-tuning (classification); writes a file for the argument `pretuned` at the end."""

_base_ = './classification_runtime.py'

custom_hooks = [*_base_.custom_hooks, dict(type='toast_mm.PretunedHook')]
