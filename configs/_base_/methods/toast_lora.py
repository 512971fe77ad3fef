"""TOAST and LoRA together: for tasks far from what the backbone was trained on."""

_base_ = './toast.py'

method = dict(tuning=dict(type='toast_mm.LoRA', rank=4, alpha=1.0))
