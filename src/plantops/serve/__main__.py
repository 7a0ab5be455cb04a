"""``python -m plantops.serve --bundle DIR``: one worker, by hand, in a container, or under the local supervisor."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import gc
import logging
import os
import resource
import signal
import socket
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prometheus_client import disable_created_metrics

from plantops.serve.access import AccessLog
from plantops.serve.app import make_app
from plantops.serve.control import Control
from plantops.serve.edge import Edge, NameRequest
from plantops.serve.guard import guarded
from plantops.serve.heap import return_big_pieces
from plantops.serve.server import Server
from plantops.serve.service import Service
from plantops.serve.settings import Settings

BACKLOG = 2048


def main() -> int:
    """Serve until told to stop; exit status 0; 2: the address cannot be had; 1: the model's process was killed."""
    options = _parser().parse_args()
    _log_to_stderr()
    warnings.simplefilter("ignore")  # Pillow has one for each odd tag: a client could fill the log with them
    disable_created_metrics()
    _allow_many_connections()
    return_big_pieces()
    settings = Settings(**{one.name: getattr(options, one.name) for one in dataclasses.fields(Settings)})
    try:
        return asyncio.run(_serve(options, settings))
    except OSError as error:
        _say(f"cannot serve on {options.host}:{options.port}: {error}")
        return 2


async def _serve(options: argparse.Namespace, settings: Settings) -> int:
    service = Service(settings, options.kept)
    access = AccessLog() if settings.access_log else None
    app = Edge(guarded(make_app(service), settings), service.metrics, access)
    server = Server(app, settings.keep_alive_s, settings.request_timeout_s)
    told = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, told.set)
    supervised = options.control_fd is not None
    public = socket.socket(fileno=options.public_fd) if supervised else _bind(options.host, options.port)
    server.accept(socket.socket(fileno=options.private_fd) if supervised else public)
    loading = asyncio.create_task(_load(service, server, options.bundle))
    # Without the process that holds the model nothing can be answered: whoever started this starts it again.
    waiting: list[asyncio.Task[Any]] = [asyncio.create_task(event.wait()) for event in (told, service.pool.ended)]
    if supervised:
        channel = socket.socket(fileno=options.control_fd)
        waiting.append(asyncio.create_task(Control(server, public).run(channel, loading, service)))
    else:
        _say(f"listening on {_url(public)}, loading {options.bundle}")
    loading.add_done_callback(lambda _: _say(f"{service.status}: {service.release or service.reason}"))
    done, _pending = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    killed = service.pool.ended.is_set()
    if not killed:
        await server.stop()
    if access:
        access.flush()
    service.pool.close()
    for task in done:
        task.result()
    return 1 if killed else 0


async def _load(service: Service, server: Server, bundle: Path) -> None:
    await service.load(bundle)
    gc.freeze()  # what is there now stays: looking through it again and again would hold up answers
    server.release = service.release
    server.close_after_answers(False)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=BACKLOG)


def _allow_many_connections() -> None:
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _log_to_stderr() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(NameRequest())
    told = "%(asctime)s %(levelname)s [%(request_id)s] %(message)s"
    logging.basicConfig(level=logging.WARNING, format=told, handlers=[handler])


def _truth(text: str) -> bool:
    return {"true": True, "1": True, "false": False, "0": False}[text.lower()]


def _told(name: str, default: Any) -> Any:
    """What a flag is that is not given: by the environment, where a container is told what only newer versions know."""
    return os.environ.get(f"PLANTOPS_SERVE_{name.upper()}", default)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m plantops.serve", description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True, help="folder of the bundle")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument(
        "--kept",
        type=Path,
        default=_told("kept", None),
        help="folder for what people say of answers; none is taken without it",
    )
    kinds: dict[str, Callable[[str], Any]] = {"float": float, "int": int, "bool": _truth, "str": str}
    for one in dataclasses.fields(Settings):
        kind = kinds[str(one.type)]
        parser.add_argument(f"--{one.name.replace('_', '-')}", type=kind, default=_told(one.name, one.default))
    for name in ("public", "private", "control"):
        parser.add_argument(f"--{name}-fd", type=int, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
