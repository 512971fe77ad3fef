"""TOAST: the backbone is frozen, feedback goes from the last layer to all layers."""

method = dict(feedback_from='last', feedback_to='first')
method_head = dict()
