"""LoRA: low-rank updates of the fused queries, keys and values; pointwise layers of a ConvNeXt."""

method = dict(feedback_from=None, tuning=dict(type='toast_mm.LoRA', rank=4, alpha=1.0))
method_head = dict()
