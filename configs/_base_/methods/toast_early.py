"""TOAST-Early: feedback from the middle layer to those below it; better for dense tasks."""

_base_ = './toast.py'

method = dict(feedback_from='middle')
