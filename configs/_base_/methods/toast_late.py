"""TOAST-Late: feedback from the last layer to the upper half; the lower half runs once."""

_base_ = './toast.py'

method = dict(feedback_to='middle')
