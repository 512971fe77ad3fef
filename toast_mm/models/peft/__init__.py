"""Methods that TOAST is compared with, chosen by the argument ``tuning`` of a backbone.

Nothing is imported here: backbones import ``base.py``, and VPT imports a backbone.
"""
