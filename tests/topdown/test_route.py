import pytest

from toast_mm.topdown import FeedbackRoute


@pytest.mark.parametrize(
    ('source', 'target', 'receivers', 'shared', 'second_pass', 'reads_output', 'cost'),
    [
        ('last', 'first', range(12), [], range(12), True, 2),  # TOAST
        ('middle', 'first', range(6), [], range(12), False, 1.5),  # TOAST-Early
        ('last', 'middle', range(6, 12), range(6), range(6, 12), True, 1.5),  # TOAST-Late
        (9, 4, range(4, 9), range(4), range(4, 12), False, 17 / 12),
        (12, 11, [11], range(11), [11], True, 13 / 12),
        (1, 0, [0], [], range(12), False, 13 / 12),
    ],
)
def test_routes_of_a_vit_b(source, target, receivers, shared, second_pass, reads_output, cost):
    route = FeedbackRoute(12, source, target)
    assert list(route.receivers) == list(receivers)
    assert list(route.shared) == list(shared)
    assert list(route.second_pass) == list(second_pass)
    assert route.reads_output is reads_output
    assert route.cost == pytest.approx(cost)


def test_default_is_the_papers():
    assert FeedbackRoute(12) == FeedbackRoute(12, 12, 0)


def test_middle_of_an_odd_number_is_rounded_down():
    assert FeedbackRoute(5, 'middle') == FeedbackRoute(5, 2, 0)
    assert FeedbackRoute(5, 'last', 'middle') == FeedbackRoute(5, 5, 2)


@pytest.mark.parametrize('depth', range(1, 7))
def test_every_valid_route(depth):
    for source in range(1, depth + 1):
        for target in range(source):
            route = FeedbackRoute(depth, source, target)
            # Step by step: one pass to the read-out, then again from the first receiver on.
            first, second, given = list(range(source)), list(range(target, depth)), []
            for block in second:
                if block < source:
                    given.append(block)
            assert len(given) == source - target
            assert list(route.receivers) == given
            assert [*route.shared, *route.receivers] == first
            assert list(route.second_pass) == second
            assert route.cost * depth == pytest.approx(len(first) + len(second))


def refusal(error, *args):
    with pytest.raises(error) as caught:
        FeedbackRoute(*args)
    return str(caught.value)


@pytest.mark.parametrize('source', [0, -1, 13])
def test_read_out_outside_of_the_backbone(source):
    message = refusal(ValueError, 12, source)
    for part in (f'feedback_from={source}', '1..12', "'middle' is 6", "'last' is 12"):
        assert part in message


def test_a_backbone_of_one_block_has_no_middle():
    message = refusal(ValueError, 1, 'middle')
    assert "feedback_from='middle' reads after 0 blocks" in message
    assert '1..1' in message


@pytest.mark.parametrize(
    ('source', 'target', 'valid'),
    [(4, 4, '0..3'), (4, 7, '0..3'), ('last', -1, '0..11'), ('middle', 'middle', '0..5')],
)
def test_upside_down(source, target, valid):
    message = refusal(ValueError, 12, source, target)
    for part in (f'feedback_to={target!r}', f'feedback_from={source!r}', valid):
        assert part in message


@pytest.mark.parametrize('value', [True, 2.0, 'top', None, [3], 'first'])
def test_no_number_and_no_name_of_a_read_out(value):
    message = refusal(TypeError, 12, value)
    assert f'feedback_from={value!r}' in message
    assert "'middle', 'last'" in message


@pytest.mark.parametrize('value', [False, 2.0, 'bottom', None, 'last'])
def test_no_number_and_no_name_of_a_first_receiver(value):
    message = refusal(TypeError, 12, 'last', value)
    assert f'feedback_to={value!r}' in message
    assert "'first', 'middle'" in message
