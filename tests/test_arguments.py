"""Arguments whose type differs from the annotation."""

import importlib
import inspect
from collections.abc import Mapping, Sequence

import pytest
from mmengine.registry import Registry

from toast_mm import registry
from toast_mm.arguments import check_arguments, check_call
from toast_mm.models import LoRA, TOASTConvNeXt, TOASTViT


@check_arguments
class Part:
    """Every form of an annotation that a config meets."""

    def __init__(
        self,
        rate: float = 0.5,
        names: Sequence[str] | str | None = None,
        options: Mapping[str, int] | None = None,
        *,
        sizes: Sequence[int] = (),
        on: bool = True,
        free=None,
        **others: object,
    ) -> None:
        given = dict(rate=rate, names=names, options=options, sizes=sizes, on=on, free=free)
        self.given = given | others


@pytest.mark.parametrize(
    'given, sentence',
    [
        (dict(rate='abc'), "^Part: rate='abc' must be float$"),
        (dict(names=3), r'^Part: names=3 must be collections.abc.Sequence\[str\] \| str \| None$'),
        (dict(names=['a', 3]), r"names=\['a', 3\] must be"),
        (dict(sizes=3), r'^Part: sizes=3 must be collections.abc.Sequence\[int\]$'),
        (dict(options=4), 'options=4 must be'),
        (dict(options={'a': 'b'}), 'options='),
        (dict(on='maybe'), "on='maybe' must be bool"),
        (dict(on=1), 'on=1 must be bool'),
    ],
)
def test_refused(given, sentence):
    with pytest.raises(TypeError, match=sentence):
        Part(**given)


def test_accepted():
    given = dict(rate=1, names=('a', 'b'), options={'a': 1}, sizes=[3], on=False, free='any')
    given['other'] = object()
    assert Part(**given).given == given
    assert Part().given['rate'] == 0.5
    assert inspect.signature(Part).parameters['on'].default is True


def test_subclasses_are_named():
    class Special(Part):
        pass

    with pytest.raises(TypeError, match=r'^Special: rate'):
        Special(rate='abc')


@pytest.mark.parametrize(
    'cls, given',
    [(TOASTViT, dict(frozen='no')), (TOASTConvNeXt, dict(lite=4)), (LoRA, dict(rank='r'))],
)
def test_classes_of_the_package(cls, given):
    with pytest.raises(TypeError, match=f'^{cls.__name__}: {next(iter(given))}='):
        cls(**given)


def test_every_registered_class_is_checked():
    for part in ('datasets', 'engine', 'evaluation', 'models'):  # they register when imported
        importlib.import_module(f'toast_mm.{part}')
    classes = {
        cls
        for known in vars(registry).values()
        if isinstance(known, Registry) and known.scope == 'toast_mm'
        for cls in known.module_dict.values()
        if inspect.isclass(cls) and cls.__module__.startswith('toast_mm')
    }
    own = [cls for cls in classes if '__init__' in vars(cls)]
    assert len(own) > 20
    assert all(hasattr(cls.__init__, '__wrapped__') for cls in own)


@check_call
def tune(backbone: str, *paths: str, epochs: int | None = None, **others: object) -> tuple:
    """Tune."""
    return backbone, paths, epochs, others


def test_a_function():
    assert tune('vit', 'a', 3, epochs=4, other=5) == ('vit', ('a', 3), 4, dict(other=5))
    assert tune.__doc__ == 'Tune.' and 'epochs' in inspect.signature(tune).parameters
    for arguments, options, sentence in (
        ([None], {}, '^tune: backbone=None must be str$'),
        (['vit'], dict(epochs='3'), r"^tune: epochs='3' must be int \| None$"),
        ([], dict(backbone=3), '^tune: backbone=3 must be str$'),
        ([], {}, "missing 1 required positional argument: 'backbone'"),
    ):
        with pytest.raises(TypeError, match=sentence):
            tune(*arguments, **options)
