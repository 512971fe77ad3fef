"""Serving the page from this machine, without calls to others."""

from __future__ import annotations

import os
import re
import signal
import socket
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from toast_mm.apis import Predictor
from toast_mm.demo.uploads import Limits, RequestLimit

# Gradio needs inline scripts and styles. Nothing may come from, or go to, another host.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'"
)
# Addresses by which Gradio's server would fetch something from another server.
REMOTE = re.compile(r'/(file|proxy)(=|/)\s*(https?:|//)', re.IGNORECASE)


class ServeError(OSError):
    """The page cannot be served; the message says why."""


class Guard:
    """Middleware: limits uploads, refuses addresses of other servers, and sets the policy.

    Args:
        app: What it guards: an ASGI application.
        per_minute: Uploads of one address in a minute.
    """

    def __init__(self, app: Any, per_minute: int) -> None:
        self.app, self.uploads = app, RequestLimit(per_minute)

    async def __call__(self, scope: Mapping[str, Any], receive: Any, send: Any) -> None:
        """Handle a request."""
        if scope['type'] != 'http':
            await self.app(scope, receive, send)
        elif REMOTE.search(scope['path']):
            await _refuse(send, 404, 'There is nothing here.')
        elif scope['path'].rstrip('/').endswith('/upload') and self.uploads.seconds_to_wait(
            str((scope.get('client') or ('',))[0])
        ):
            await _refuse(send, 429, 'Too many pictures: wait a minute.')
        else:
            await self.app(scope, receive, _with_policy(send))


def _with_policy(send: Any) -> Any:
    async def wrapped(message: dict[str, Any]) -> None:
        if message['type'] == 'http.response.start':
            headers = [
                (b'content-security-policy', POLICY.encode()),
                (b'referrer-policy', b'no-referrer'),
                (b'x-content-type-options', b'nosniff'),
            ]
            message = {**message, 'headers': [*message.get('headers', ()), *headers]}
        await send(message)

    return wrapped


async def _refuse(send: Any, status: int, text: str) -> None:
    headers = [(b'content-type', b'text/plain; charset=utf-8')]
    await send({'type': 'http.response.start', 'status': status, 'headers': headers})
    await send({'type': 'http.response.body', 'body': text.encode()})


def serve(
    task_files: Mapping[str, Predictor],
    limits: Limits,
    host: str = '127.0.0.1',
    port: int = 7860,
    share: bool = False,
) -> None:
    """Serve the page until Ctrl-C. All files of visitors are removed at the end.

    Args:
        task_files: Predictors by name; at least one.
        limits: Limits for visitors.
        host: Address to serve. Defaults to this machine only; ``'0.0.0.0'`` is all addresses.
        port: Its port.
        share: Whether Gradio makes a public address, by a tunnel through its servers.

    Raises:
        ImportError: The extra ``demo`` is missing.
        ServeError: The address is taken or cannot be served.
    """
    check_address(host, port)
    with tempfile.TemporaryDirectory(prefix='toast_mm_demo_') as folder:
        # Gradio reads these while it is imported.
        os.environ.update(
            GRADIO_ANALYTICS_ENABLED='False', GRADIO_TEMP_DIR=folder, HF_HUB_DISABLE_TELEMETRY='1'
        )
        gr, build_page = _import_page()
        from starlette.middleware import Middleware  # comes with Gradio

        busy = threading.Lock()
        page = build_page(task_files, limits, Path(folder), busy)
        page.queue(max_size=limits.waiting, api_open=False)
        system = dict(font=['system-ui', 'sans-serif'], font_mono=['ui-monospace', 'monospace'])
        try:
            # Named here, since other defaults come from environment variables.
            page.launch(
                server_name=host,
                server_port=port,
                share=share,
                max_file_size=int(limits.megabytes * 1e6),
                allowed_paths=[folder],
                app_kwargs=dict(middleware=[Middleware(Guard, per_minute=limits.per_minute)]),
                theme=gr.themes.Default(**system),
                ssr_mode=False,
                mcp_server=False,
                pwa=False,
                run_history=False,
                enable_monitoring=False,
                footer_links=[],
                root_path='',
                quiet=True,
                prevent_thread_lock=True,
            )
            print(f'http://{_in_url(host)}:{port} shows the page; Ctrl-C ends it', flush=True)
            _wait()
        except OSError as error:
            raise ServeError(f'{host}:{port} cannot be served: {error}') from error
        finally:
            page.close(verbose=False)
            # Ending Python amid the computations of a thread would abort it.
            if not busy.acquire(blocking=False):
                print('waiting for the last prediction', flush=True)
                busy.acquire()


def check_address(host: str, port: int) -> None:
    """Check that a page can be served.

    Raises:
        ServeError: The port is taken, or the address is not one of this machine.
    """
    if not 0 < port < 65_536:
        raise ServeError(f'port {port} must be between 1 and 65535')
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        reason = error.strerror or str(error)
        raise ServeError(
            f'{host}:{port} cannot be served ({reason}): choose another --port, or a --host of '
            'this machine'
        ) from error


def _import_page() -> tuple[Any, Any]:
    try:
        import gradio

        from toast_mm.demo.page import build_page
    except ImportError as error:
        if (error.name or '').split('.')[0] == 'toast_mm':
            raise
        raise ImportError(
            f'the page needs Gradio ({error}): pip install "toast_mm[demo]"'
        ) from error
    return gradio, build_page


def _wait() -> None:
    """Wait for Ctrl-C, or for the signal by which a system ends a service."""
    end = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: end.set())
    try:
        end.wait()
    except KeyboardInterrupt:
        print()  # the terminal shows ^C in this line
    finally:
        signal.signal(signal.SIGTERM, before)


def _in_url(host: str) -> str:
    return f'[{host}]' if ':' in host else host
