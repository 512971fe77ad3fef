"""The head alone is tuned, on the frozen backbone."""

method = dict(feedback_from=None)  # arguments of the backbone
method_head = dict()  # and of the classification head
