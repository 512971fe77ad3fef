"""Models of timm by name under every method, in a classifier and an UPerNet: tokens."""

import pytest
from named_backbones import TOKENS, Base, all_of, check, methods


@pytest.fixture(scope='module', params=all_of(TOKENS, fast=('DINOv2 with registers', 'DINOv3')))
def base(request, tmp_path_factory):
    return Base(request.param, tmp_path_factory.mktemp('base'))


@methods
def test_in_a_classifier(base, method, tmp_path):
    check(base, base.classifier, method, tmp_path / 'task.pth')


@methods
def test_in_a_segmentor(base, method, tmp_path):
    check(base, base.segmentor, method, tmp_path / 'task.pth')
