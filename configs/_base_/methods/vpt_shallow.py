"""VPT-shallow: prompts in front of the first block."""

method = dict(feedback_from=None, tuning=dict(type='toast_mm.VPT', num_prompts=100, deep=False))
method_head = dict()
