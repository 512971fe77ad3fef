"""InCA on the four stages of a ConvNeXt, here of a ConvNeXt-B."""

method = dict(feedback_from=None, gap_before_final_norm=False, out_indices=[0, 1, 2, 3])
method_head = dict(
    type='toast_mm.InCAHead',
    in_channels=[128, 256, 512, 1024],
    num_layers=4,
    predict='ensemble',
    init_cfg=None,  # that of a linear head is not for attention
)
