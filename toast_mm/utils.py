"""What ``mmengine.hub.get_model`` demands of a package, under this name."""


def register_all_modules(init_default_scope: bool = True) -> None:
    """Do nothing: the registries of ``toast_mm`` import its parts when one is asked for.

    Args:
        init_default_scope: As in mmseg and mmpretrain, but without effect. The default scope
            belongs to the job, which is one of mmseg or of mmpretrain.
    """
