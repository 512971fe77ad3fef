"""BitFit: the biases are tuned."""

method = dict(feedback_from=None, tuning=dict(type='toast_mm.BitFit'))
method_head = dict()
