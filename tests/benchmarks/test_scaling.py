"""benchmarks/scaling.py: its arithmetic by hand, and the page that shows its tables."""

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / 'docs' / 'scaling.md'
TEXT = (ROOT / 'benchmarks' / 'COST.md').read_text()


@pytest.fixture(scope='module')
def scaling():
    spec = importlib.util.spec_from_file_location('scaling', ROOT / 'benchmarks' / 'scaling.py')
    module = importlib.util.module_from_spec(spec)
    sys.modules['scaling'] = module  # dataclasses look it up
    spec.loader.exec_module(module)
    yield module
    del sys.modules['scaling']


@pytest.fixture(scope='module')
def row(scaling):
    """100 million of 400 million weights are tuned: 400 MB of gradients, in 17 buckets."""
    return scaling.Row(
        tuned=100e6,
        weights=400e6,
        flops=1e12,
        batch=10,
        seconds=0.1,
        saved=4e9,
        activations=5e9,
        peak=8e9,
    )


@pytest.fixture(scope='module')
def cluster(scaling):
    return scaling.Cluster(nvlink=400e9, network=200e9, hbm=2.8e12, memory=20e9)


def run(scaling, monkeypatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, 'argv', ['scaling.py', *arguments])
    scaling.main()


def test_traffic_and_time_by_hand(scaling, row, cluster):
    assert scaling.gradient_bytes(row) == 400e6
    assert scaling.traffic(row, 8) == 700e6
    assert scaling.traffic(row, 16) == 750e6
    # In a node: 700 MB at 400 GB/s, and 17 times 4.4 + 2 * 7 * 1.2 microseconds.
    assert scaling.all_reduce(row, 8, cluster) == pytest.approx(1.75e-3 + 17 * 21.2e-6)
    # Two nodes: 750 MB at 200 GB/s, and one level of nodes, up and down.
    assert scaling.all_reduce(row, 16, cluster) == pytest.approx(3.75e-3 + 17 * 38.2e-6)
    # 64 nodes are six levels.
    assert cluster.latency(512) == pytest.approx(21.2e-6 + 6 * 17e-6)
    # The update moves 28 bytes per tuned parameter: 2.8 GB at 2.8 TB/s.
    assert scaling.step(row, 1, cluster) == pytest.approx(0.101)
    assert scaling.efficiency(row, 1, cluster) == 1
    assert scaling.efficiency(row, 8, cluster) == pytest.approx(0.101 / (0.10275 + 17 * 21.2e-6))


def test_a_fast_network_does_not_outrun_nvlink(scaling):
    assert scaling.Cluster(nvlink=300e9, network=400e9).bandwidth(16) == 300e9


def test_few_gradients_are_one_bucket(scaling, row, cluster):
    few = scaling.Row(**{**vars(row), 'tuned': 1000})
    assert scaling.all_reduce(few, 2, cluster) == pytest.approx(4000 / 400e9 + 6.8e-6)


def test_memory_by_hand(scaling, row, cluster):
    # The peak, 400 MB of buckets and 800 MB of moments.
    assert scaling.memory(row) == pytest.approx(9.2e9)
    # 1.6 GB of weights, 0.8 GB of their copies and 1.6 GB of gradients, buckets and moments leave
    # 16 of 20 GB, and an image takes half a GB.
    assert scaling.images_that_fit(row, cluster) == 32
    small = scaling.Cluster(memory=1e9)
    assert scaling.images_that_fit(row, small) == 0


def test_fsdp_by_hand(scaling, row):
    # 1.6 GB of weights and 1.2 GB of the tuned ones on 4 GPUs, activations, 2 of 20 blocks.
    assert scaling.sharded_memory(row, 20, 4) == pytest.approx(0.7e9 + 5e9 + 160e6)
    assert scaling.sharded_traffic(row, 'LoRA', 4) == pytest.approx(0.75 * (2 * 1.6e9 + 0.4e9))
    assert scaling.sharded_traffic(row, 'TOAST', 4) == pytest.approx(0.75 * (3 * 1.6e9 + 0.4e9))
    assert scaling.sharded_traffic(row, 'linear', 4) == pytest.approx(0.75 * (1.6e9 + 0.4e9))


def test_rows_are_those_of_the_table(scaling):
    """ViT-B as COST.md has it: 0.73 ms per image, 3424 MiB saved, a peak of 4336."""
    tables = scaling.read(TEXT)
    assert list(tables) == [shape.arch for shape in scaling.SHAPES]
    line = (
        '| TOAST, last | 14.90M | 78.62 | 2.24 | 0.46 | 2.16 | 128.48 | 1.22 | 0.73 | 3.06 | 3424'
    )
    assert line in TEXT
    found = scaling.measured(tables, scaling.SHAPES[0], 'TOAST, last')
    assert found.tuned == 14.90e6
    assert found.weights == pytest.approx(85.95e6 + 14.90e6 - 0.15e6)
    assert found.seconds == pytest.approx(0.73e-3 * 64)
    assert found.saved + found.copies == pytest.approx(3424 * 2**20)
    assert found.peak == 4336 * 2**20


def test_the_largest_backbone_is_extrapolated(scaling):
    """By FLOPs in time, and by tokens, channels and blocks in memory."""
    tables = scaling.read(TEXT)
    known = scaling.measured(tables, scaling.MEASURED, 'TOAST, last')
    found = scaling.extrapolated(tables, scaling.SHAPES[-1], 'TOAST, last', 32)
    assert found.seconds / known.seconds == pytest.approx(10358.70 / 1477.96)
    assert found.saved / known.saved == pytest.approx(201 * 4096 / (197 * 1408))
    assert found.peak > 4 * (6.7e9 + 1.36e9) + 2 * 6.7e9


def test_activations_per_element_agree_across_backbones(scaling):
    """What the extrapolation of memory rests on."""
    tables = scaling.read(TEXT)
    for method in scaling.METHODS[1:]:
        shares = []
        for shape in scaling.SHAPES[:-1]:
            row = scaling.measured(tables, shape, method)
            shares.append(row.saved / shape.elements(row.batch))
        assert max(shares) / min(shares) < 1.05, method


def test_parts_of_the_memory_add_up_to_the_measured_peak(scaling):
    """Weights, saved tensors and gradients, within a fifth of the peak that is measured."""
    tables = scaling.read(TEXT)
    for shape in scaling.SHAPES[:-1]:
        for method in scaling.METHODS[1:]:
            row = scaling.measured(tables, shape, method)
            total = 4 * (row.weights + row.tuned) + row.saved + row.copies
            assert total == pytest.approx(row.peak, rel=0.2), (shape.title, method)


def test_the_page_shows_what_the_script_prints(scaling, monkeypatch, capsys):
    run(scaling, monkeypatch)
    printed = capsys.readouterr().out.strip().split('\n\n')
    page = PAGE.read_text()
    assert len(printed) == 3
    for table in printed:
        assert table in page, 'run benchmarks/scaling.py and copy its tables'


def test_claims_of_the_page(scaling):
    """In short: shares of full fine-tuning's traffic, efficiencies, and what fits."""
    cluster = scaling.Cluster()
    found = {(shape.title, method): row for shape, method, row in scaling.rows(TEXT)}
    for (title, method), row in found.items():
        share = row.tuned / found[title, 'full fine-tuning'].tuned
        if method.startswith('TOAST,'):
            assert 0.08 <= round(share, 2) <= 0.2
        elif method != 'full fine-tuning':
            assert share < 0.02
        if method != 'full fine-tuning' and title != 'ViT-7B':
            assert scaling.efficiency(row, 512, cluster) > 0.95
        assert (scaling.images_that_fit(row, cluster) == 0) == (
            (title, method) == ('ViT-7B', 'full fine-tuning')
        )


@pytest.mark.parametrize(
    ('arguments', 'complaint'),
    [
        (['--gpus', '12'], '--gpus 12 must be 1 to 8, or a multiple of 8, whole nodes'),
        (['--gpus', '0'], '--gpus 0 must be'),
        (['--network', '0'], '--network 0.0 must be above 0'),
    ],
)
def test_wrong_arguments(scaling, monkeypatch, capsys, arguments, complaint):
    with pytest.raises(SystemExit):
        run(scaling, monkeypatch, *arguments)
    assert complaint in capsys.readouterr().err


def test_numbers_of_gpus_are_columns(scaling, monkeypatch, capsys):
    run(scaling, monkeypatch, '--gpus', '2')
    assert '| all-reduce, 2 | step, 2 |' in capsys.readouterr().out
