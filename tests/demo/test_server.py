"""The guard of the page, and addresses that cannot be served."""

import asyncio
import socket

import pytest

from toast_mm.demo.server import Guard, ServeError, check_address


async def inner(scope, receive, send):
    await send({'type': 'http.response.start', 'status': 200, 'headers': [(b'a', b'b')]})
    await send({'type': 'http.response.body', 'body': b'page'})


def ask(guard, path, client='10.0.0.7'):
    """Status, headers and text of an answer."""
    sent = []

    async def send(message):
        sent.append(message)

    asyncio.run(guard(dict(type='http', path=path, client=(client, 5000)), None, send))
    start, body = sent
    return start['status'], dict(start['headers']), body['body'].decode()


def test_answers_forbid_other_hosts():
    status, headers, text = ask(Guard(inner, 1), '/')
    assert (status, headers[b'a'], text) == (200, b'b', 'page')
    policy = headers[b'content-security-policy'].decode()
    assert policy.startswith("default-src 'self'; script-src 'self'")
    assert 'http' not in policy
    assert '*' not in policy


@pytest.mark.parametrize(
    'path',
    [
        '/gradio_api/file=http://example.com/a.png',
        '/gradio_api/file=HTTPS://example.com/a.png',
        '/gradio_api/file=//example.com/a.png',
        '/gradio_api/file/https://example.com/a.png',
        '/gradio_api/proxy=https://example.com/a.png',
    ],
)
def test_the_server_fetches_nothing_for_visitors(path):
    assert ask(Guard(inner, 1), path)[0] == 404


def test_uploads_are_counted_by_visitor():
    guard = Guard(inner, 2)
    path = '/gradio_api/upload'
    assert [ask(guard, path)[0] for _ in range(3)] == [200, 200, 429]
    assert ask(guard, path + '/')[2] == 'Too many pictures: wait a minute.'
    assert ask(guard, path, client='10.0.0.8')[0] == 200
    assert ask(guard, '/gradio_api/file=/tmp/upload.png')[0] == 200


def test_a_port_that_is_taken():
    with socket.create_server(('127.0.0.1', 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServeError, match=f'127.0.0.1:{port} cannot be served .*another --port'):
            check_address('127.0.0.1', port)
    check_address('127.0.0.1', port)


def test_an_address_of_another_machine():
    with pytest.raises(ServeError, match=r'192\.0\.2\.1:7860 cannot be served .*a --host of this'):
        check_address('192.0.2.1', 7860)


@pytest.mark.parametrize('port', [0, 99_999])
def test_what_is_no_port(port):
    with pytest.raises(ServeError, match=f'port {port} must be between 1 and 65535'):
        check_address('127.0.0.1', port)
