"""The listening socket of a server that ends: who was let in is served, who comes now is not let in."""

from __future__ import annotations

import socket

import pytest

from bone_age.serving.rest.connections import turn_newcomers_away


def test_connections_already_made_are_served_and_no_other_is_made() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=100) as door:
        address = door.getsockname()
        early = [socket.create_connection(address, timeout=5) for _ in range(5)]
        turn_newcomers_away(door)
        with pytest.raises(TimeoutError):
            socket.create_connection(address, timeout=0.3)
        for number, client in enumerate(early):
            client.sendall(b"%d" % number)
        taken = [door.accept()[0] for _ in early]
        assert sorted(connection.recv(1) for connection in taken) == [b"%d" % number for number in range(5)]
        for connection in (*early, *taken):
            connection.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=5)
