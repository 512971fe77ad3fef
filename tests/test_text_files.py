"""Text files, with and without the marks of other systems."""

import pytest

from toast_mm.text_files import NotTextError, read_text


@pytest.mark.parametrize('mark', [b'', b'\xef\xbb\xbf'])
def test_utf_8(tmp_path, mark):
    path = tmp_path / 'list.txt'
    path.write_bytes(mark + 'é 1\r\nb 2\n'.encode())
    assert read_text(path) == 'é 1\nb 2\n'


@pytest.mark.parametrize(
    'content, place', [('a é'.encode('latin-1'), 2), ('a'.encode('utf-16'), 0)]
)
def test_another_encoding(tmp_path, content, place):
    path = tmp_path / 'list.txt'
    path.write_bytes(content)
    with pytest.raises(
        NotTextError, match=rf'^{path} is not text in UTF-8: .* at byte {place}; sav'
    ):
        read_text(str(path))
