"""Errors of other packages, and what is said about them."""

import numpy as np
import pytest
from mmengine.config import Config

from toast_mm.engine.config import ConfigError
from toast_mm.engine.explain import explained


@pytest.mark.parametrize(
    'error, sentence',
    [
        (ValueError('a sentence: all of it'), 'a sentence: all of it'),
        (ValueError("invalid literal: 'x'"), "invalid literal: 'x'"),
        (KeyError('img'), "KeyError: 'img'"),
        (TypeError('no sentence'), 'TypeError: no sentence'),
        (ValueError('Expected more than 1 value per channel'), 'batch normalisation needs more'),
    ],
)
def test_the_type_of_an_error_is_said_if_it_tells_something(error, sentence):
    """That of a ValueError does not."""
    with pytest.raises(ConfigError) as info, explained(Config()):
        raise error
    assert str(info.value).startswith(sentence) and info.value.__cause__ is error


def test_another_packages_value_error():
    sentence = r'^cannot reshape array of size 3 into shape'
    with pytest.raises(ConfigError, match=sentence), explained(Config()):
        np.arange(3).reshape(2, 2)
