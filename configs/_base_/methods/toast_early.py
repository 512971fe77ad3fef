"""TOAST-Early: feedback from the middle layer to those below it; better for dense tasks."""

method = dict(feedback_from='middle', feedback_to='first')
method_head = dict()
