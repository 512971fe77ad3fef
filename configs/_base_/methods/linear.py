"""The head alone is tuned, on the frozen backbone."""

method = dict(feedback_from=None)
