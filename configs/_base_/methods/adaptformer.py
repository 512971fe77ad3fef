"""AdaptFormer: a bottleneck beside every feed-forward network."""

method = dict(feedback_from=None, tuning=dict(type='toast_mm.AdaptFormer', bottleneck=64))
method_head = dict()
