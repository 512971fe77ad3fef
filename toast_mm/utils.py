"""A function that ``mmengine.hub.get_model`` requires of a package, in a module of this name."""


def register_all_modules(init_default_scope: bool = True) -> None:
    """Do nothing: the registries of ``toast_mm`` import its parts on demand.

    Args:
        init_default_scope: As in mmseg and mmpretrain, but without effect: the config sets the
            default scope, which is that of mmseg or mmpretrain.
    """
