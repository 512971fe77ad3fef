"""Methods that TOAST is compared with, chosen by the argument ``tuning`` of a backbone.

Backbones know ``base.py``, and methods know backbones: so nothing is imported here.
"""
