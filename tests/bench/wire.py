"""HTTP/1.1 over a socket, as far as Lambda's Runtime API and the AWS SDK speak it."""
import socket
import threading
import time
from typing import NamedTuple


class Request(NamedTuple):
    method: str
    target: str
    headers: dict
    body: bytes
    at: int  # when it began to arrive, on the monotonic clock in ns


def read_request(stream):
    """The next request of a connection; None when it was closed."""
    line = stream.readline()
    at = time.monotonic_ns()
    if not line:
        return None
    method, target, _ = line.decode("latin1").split(" ", 2)
    headers = {}
    while (line := stream.readline().strip()):
        name, value = line.decode("latin1").split(":", 1)
        headers[name.lower()] = value.strip()
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = read_chunks(stream)
    else:
        body = stream.read(int(headers.get("content-length", 0)))
    return Request(method, target, headers, body, at)


def read_chunks(stream):
    """A body in chunks; aws-chunked bodies look the same, but for what they may say of a chunk behind a semicolon."""
    body = b""
    while (size := int(stream.readline().split(b";")[0], 16)):
        body += stream.read(size)
        stream.readline()
    while stream.readline().strip():
        pass
    return body


def write_answer(connection, status, body=b"", headers=()):
    lines = [f"HTTP/1.1 {status} {'OK' if status < 300 else 'Refused'}", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers]
    connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)


def listen(port=0):
    listener = socket.create_server(("127.0.0.1", port), backlog=64)
    return listener, listener.getsockname()[1]


def serve(listener, answer, tls=None):
    """Answers every connection on a thread of its own: `answer(connection, request)`. Ends when the listener is closed."""

    def talk(connection):
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if tls:
                connection = tls.wrap_socket(connection, server_side=True)
            with connection, connection.makefile("rb") as stream:
                while (request := read_request(stream)):
                    answer(connection, request)
        except OSError:
            pass  # the other side is gone

    def accept():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=talk, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
