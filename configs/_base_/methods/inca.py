"""InCA: cross-attention adapters on four layers of the frozen backbone, here of a ViT."""

_base_ = './linear.py'

# The job adds toast_mm.BestLayerHook, and validates by toast_mm.LayerAccuracy.
method = dict(out_type='raw', out_indices=[-4, -3, -2, -1])
method_head = dict(type='toast_mm.InCAHead', num_layers=4)
