"""TOAST and BitFit together: for tasks far from what the backbone was trained on."""

method = dict(feedback_from='last', feedback_to='first', tuning=dict(type='toast_mm.BitFit'))
method_head = dict()
