"""LoRA: low-rank updates of the fused queries, keys and values; pointwise layers of a ConvNeXt."""

_base_ = './linear.py'

method = dict(tuning=dict(type='toast_mm.LoRA', rank=4, alpha=1.0))
