"""TOAST and BitFit together: for tasks far from what the backbone was trained on."""

_base_ = './toast.py'

method = dict(tuning=dict(type='toast_mm.BitFit'))
