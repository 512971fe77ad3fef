"""AdaptFormer: a bottleneck beside every feed-forward network."""

_base_ = './linear.py'

method = dict(tuning=dict(type='toast_mm.AdaptFormer', bottleneck=64))
