"""TOAST and LoRA together: for tasks far from what the backbone was trained on."""

method = dict(
    feedback_from='last', feedback_to='first', tuning=dict(type='toast_mm.LoRA', rank=4, alpha=1.0)
)
method_head = dict()
