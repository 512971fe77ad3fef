"""SSF: scale and shift behind every operation."""

method = dict(feedback_from=None, tuning=dict(type='toast_mm.SSF'))
method_head = dict()
