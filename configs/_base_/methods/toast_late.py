"""TOAST-Late: feedback from the last layer to the upper half; the lower half runs once."""

method = dict(feedback_from='last', feedback_to='middle')
method_head = dict()
