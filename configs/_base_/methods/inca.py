"""InCA: cross-attention adapters on four layers of the frozen backbone, here of a ViT."""

method = dict(feedback_from=None, out_type='raw', out_indices=[-4, -3, -2, -1])
# The best layer in place of all: predict='best', toast_mm.BestLayerHook, toast_mm.LayerAccuracy.
method_head = dict(
    type='toast_mm.InCAHead',
    num_layers=4,
    predict='ensemble',
    init_cfg=None,  # that of a linear head is not for attention
)
