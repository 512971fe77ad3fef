"""TOAST-Lite: low-rank updates of a frozen, pre-tuned feedback path (paper sec. 3.2).

A job should name the pre-tuned module by `pretuned`.
"""

method = dict(feedback_from='last', feedback_to='first', lite=dict(rank=4, alpha=1.0))
method_head = dict()
