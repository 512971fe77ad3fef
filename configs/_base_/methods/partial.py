"""The last block (of a ConvNeXt: stage) is tuned."""

method = dict(feedback_from=None, tuning=dict(type='toast_mm.Partial', blocks=1))
method_head = dict()
