"""Registries of scope ``toast_mm``: children of mmengine's, so ``toast_mm.X`` works everywhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mmengine.registry as root
from mmengine.registry import DefaultScope, Registry

from toast_mm.arguments import check_arguments

SCOPE = 'toast_mm'


class TransparentRegistry(Registry):
    """mmengine's ``Registry`` for a scope that adds names and hides none.

    mmengine writes ``_scope_='toast_mm'`` into every part of a config that is inherited as
    ``toast_mm::...``, and then looks names up in that scope only. Our configs mostly consist of
    parts of mmseg or mmpretrain, which are found through ``default_scope``. So while ``toast_mm``
    is the current scope, this registry looks up a name without a prefix here first, then in the
    scope that was current before. A name with a prefix is looked up as usual.

    Registered classes check the types of their arguments; see :func:`check_arguments`.
    """

    def get(self, key: str) -> type | None:
        """Find the class or function of a name, or None."""
        around = _scope_around()
        if around is not None and isinstance(key, str) and '.' not in key:
            self.import_from_location()
            if key not in self.module_dict:
                found = self.root.get(f'{around}.{key}')
                if found is not None:
                    return found
        return super().get(key)

    def _register_module(self, module: Any, *args: Any, **kwargs: Any) -> None:
        super()._register_module(module, *args, **kwargs)
        check_arguments(module)


def _scope_around() -> str | None:
    """The scope that was current before ``toast_mm``; None if another one is current now."""
    # mmengine's public functions only give the innermost scope.
    scopes = [instance.scope_name for instance in DefaultScope._instance_dict.values()]
    if not scopes or scopes[-1] != SCOPE:
        return None
    return next((scope for scope in reversed(scopes) if scope != SCOPE), None)


def type_name(part: Mapping[str, Any]) -> str:
    """Name of the class in a part of a config, without scope or module; '' if it has none.

    A text config writes ``'toast_mm.StepSeedHook'``, a pure-Python one the class itself.
    """
    kind = part.get('type', '')
    name = kind if isinstance(kind, str) else getattr(kind, '__name__', str(kind))
    return name.rpartition('.')[-1]


def _child(parent: Registry, *locations: str) -> Registry:
    modules = [f'toast_mm.{location}' for location in locations]
    return TransparentRegistry(parent.name, parent=parent, scope=SCOPE, locations=modules)


# One for every registry of mmengine: without a child, mmengine searches only its own.
MODELS = _child(root.MODELS, 'models')
MODEL_WRAPPERS = _child(root.MODEL_WRAPPERS, 'engine')
WEIGHT_INITIALIZERS = _child(root.WEIGHT_INITIALIZERS, 'models')
TASK_UTILS = _child(root.TASK_UTILS, 'models')
DATASETS = _child(root.DATASETS, 'datasets')
DATA_SAMPLERS = _child(root.DATA_SAMPLERS, 'datasets')
TRANSFORMS = _child(root.TRANSFORMS, 'datasets')
FUNCTIONS = _child(root.FUNCTIONS, 'datasets')
RUNNERS = _child(root.RUNNERS, 'engine')
RUNNER_CONSTRUCTORS = _child(root.RUNNER_CONSTRUCTORS, 'engine')
STRATEGIES = _child(root.STRATEGIES, 'engine')
LOOPS = _child(root.LOOPS, 'engine')
HOOKS = _child(root.HOOKS, 'engine')
LOG_PROCESSORS = _child(root.LOG_PROCESSORS, 'engine')
OPTIMIZERS = _child(root.OPTIMIZERS, 'engine')
OPTIM_WRAPPERS = _child(root.OPTIM_WRAPPERS, 'engine')
OPTIM_WRAPPER_CONSTRUCTORS = _child(root.OPTIM_WRAPPER_CONSTRUCTORS, 'engine')
PARAM_SCHEDULERS = _child(root.PARAM_SCHEDULERS, 'engine')
METRICS = _child(root.METRICS, 'evaluation')
EVALUATOR = _child(root.EVALUATOR, 'engine')
VISUALIZERS = _child(root.VISUALIZERS, 'engine')
VISBACKENDS = _child(root.VISBACKENDS, 'engine')
INFERENCERS = _child(root.INFERENCERS, 'engine')
