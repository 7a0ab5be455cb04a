"""Who holds a port, and sockets in deep folders."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from api_client import HOST, free_port
from plantops.deploy import ports, unix


def test_the_holder_is_named() -> None:
    with socket.create_server((HOST, 0)) as listener:
        port = listener.getsockname()[1]
        found = ports.holder(port)
        assert found is not None
        assert found.pid == os.getpid()
        assert "python" in found.command
        assert f"port {port} is taken by process {os.getpid()}" in (ports.obstacle(HOST, port) or "")


def test_a_client_of_a_port_is_no_holder() -> None:
    with socket.create_server((HOST, 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        port = client.getsockname()[1]
        assert ports.holder(port) is None
        client.close()


def test_a_free_port() -> None:
    port = free_port()
    assert ports.holder(port) is None
    assert ports.obstacle(HOST, port) is None


def test_an_address_that_is_not_ours() -> None:
    assert "cannot listen on 203.0.113.7:" in (ports.obstacle("203.0.113.7", free_port()) or "")


def test_another_users_program_has_no_pid() -> None:
    assert str(ports.Holder(None, "a program of another user")) == "a program of another user"


def test_a_unix_socket_in_a_deep_folder(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120) / ("e" * 120)
    deep.mkdir(parents=True)
    with unix.listen(deep / "s.sock") as listener, unix.connect(deep / "s.sock", 5) as client:
        server, _ = listener.accept()
        client.sendall(b"hello")
        assert server.recv(10) == b"hello"
        server.close()
    with pytest.raises(ConnectionRefusedError):
        unix.connect(deep / "s.sock", 1)
    with pytest.raises(FileNotFoundError):
        unix.connect(deep / "other.sock", 1)
