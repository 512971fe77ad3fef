"""VPT-deep: prompts of their own in every block."""

method = dict(feedback_from=None, tuning=dict(type='toast_mm.VPT', num_prompts=100))
method_head = dict()
