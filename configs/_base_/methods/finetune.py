"""Everything is tuned, without a top-down module."""

method = dict(feedback_from=None, frozen=False)
method_head = dict()
