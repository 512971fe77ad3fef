"""Arrays of records: written atomically, with a checksum of every record."""

import json
import pickle

import numpy as np
import pytest

from toast_mm.engine.first_passes.records import DamagedCacheError, Records, RecordWriter

VALUES = dict(
    a=np.arange(30, dtype=np.float32).reshape(5, 2, 3), b=np.arange(5, dtype=np.uint8)[:, None]
)


def rows(start: int, stop: int) -> dict[str, np.ndarray]:
    return {name: array[start:stop] for name, array in VALUES.items()}


@pytest.fixture
def folder(tmp_path):
    """Five records, written in two parts."""
    said = []
    with RecordWriter(tmp_path / 'cache', 5, said.append) as writer:
        writer.add(rows(0, 3))
        assert not (tmp_path / 'cache').exists()
        writer.add(rows(3, 5))
        writer.finish(sizes={3: [1, 2]})
    assert said == [f'0.0 MiB in {tmp_path / "cache"}']
    assert [path.name for path in tmp_path.iterdir()] == ['cache']
    return tmp_path / 'cache'


def test_what_is_written_is_read(folder):
    records = pickle.loads(pickle.dumps(Records(folder)))
    assert records.meta['number'] == 5 and records.meta['sizes'] == {'3': [1, 2]}
    for name, array in VALUES.items():
        assert np.array_equal(records.arrays[name], array)
    assert records.damaged() == []


def test_records_of_another_folder_are_not_taken(folder, tmp_path):
    """The name of a folder is the key of its records."""
    folder.rename(tmp_path / 'other')
    with pytest.raises(DamagedCacheError, match=r'other/meta\.json is damaged'):
        Records(tmp_path / 'other').damaged()


def test_damaged_records_are_found_and_written_again(folder):
    records = Records(folder)
    before = (folder / 'a.npy').read_bytes()
    records.open('r+')['a'][[1, 4]] = -1
    (folder / 'b.npy').write_bytes((folder / 'b.npy').read_bytes()[:-2])  # the last two records
    assert records.damaged() == [1, 3, 4] and records.damaged([0, 1, 2]) == [1]
    right = {name: array[[1, 3, 4]] for name, array in VALUES.items()}
    parts = [slice(0, 2), slice(2, 3)]
    records.rewrite([1, 3, 4], ({n: array[part] for n, array in right.items()} for part in parts))
    assert records.damaged() == Records(folder).damaged() == []
    assert (folder / 'a.npy').read_bytes() == before
    assert np.array_equal(Records(folder).arrays['b'], VALUES['b'])


def test_an_interruption_leaves_nothing(tmp_path):
    with (
        pytest.raises(KeyboardInterrupt),
        RecordWriter(tmp_path / 'cache', 5, lambda _: None) as writer,
    ):
        writer.add(rows(0, 3))
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('change', [dict(number=4), dict(checksum=1), None])
def test_their_description_is_checked(folder, change):
    meta = json.loads((folder / 'meta.json').read_text())
    (folder / 'meta.json').write_text(json.dumps({**meta, **change} if change else [meta]))
    with pytest.raises(DamagedCacheError, match=r'meta\.json is damaged'):
        Records(folder).damaged()


def test_a_missing_array(folder):
    (folder / 'b.npy').unlink()
    with pytest.raises(DamagedCacheError, match=r'b\.npy is missing'):
        Records(folder).damaged()
