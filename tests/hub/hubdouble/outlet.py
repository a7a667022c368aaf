# SPDX-License-Identifier: Apache-2.0
"""The way out of a connection: bytes pass through cuts, stalls and speed limits, and are counted as they go.

Also the three ways in which a connection can end: hang_up (RST), finish (FIN), abandon (from another thread).
"""
import fcntl
import os
import select
import socket
import ssl
import struct
import termios
import time

from .spoil import place


class Cut(Exception):
    """Ends a connection by rule: with FIN, or with RST."""

    def __init__(self, reset=False, patience=1.0):
        self.reset = reset
        self.patience = patience    # how long to wait for the client's own FIN


class Outlet:
    """Sends bytes through cuts, stalls and speed limits, and keeps the call record up to date."""

    def __init__(self, conn, origin, buckets, actions, call):
        self.conn, self.origin, self.buckets, self.call = conn, origin, buckets, call
        self.events, self.sent, self.in_body = [], 0, False
        self.actions = actions

    def arm(self, size):
        """From here on bytes count towards cut_after, reset_after and stall_after."""
        a = self.actions
        events = [(place(a[name], size), name) for name in ("stall_after", "cut_after", "reset_after") if a.get(name) is not None]
        self.events = sorted((where + self.sent, name) for where, name in events)

    def room(self):
        """How many bytes may go before the next event; carries out the events that are due."""
        while self.events and self.events[0][0] <= self.sent:
            _, name = self.events.pop(0)
            if name == "stall_after":
                self.stall(self.actions.get("stall_for"))
            else:
                patience = self.actions.get("stall_for", 30) if self.actions.get("half_close") else 1.0
                raise Cut(name == "reset_after", patience)
        return self.events[0][0] - self.sent if self.events else 1 << 40

    def stall(self, seconds):
        """Silence, for so long, or until an event is set, or for ever; ends early when the client goes away."""
        event = seconds if hasattr(seconds, "is_set") else None
        end = None if event or seconds is None else time.monotonic() + seconds
        while not event.is_set() if event else end is None or time.monotonic() < end:
            wait = 0.02 if event else 0.5 if end is None else min(0.5, max(0.0, end - time.monotonic()))
            poll = select.poll()   # select() takes no descriptor above 1023
            poll.register(self.conn, select.POLLIN)
            if poll.poll(wait * 1000):
                if isinstance(self.conn, ssl.SSLSocket):
                    time.sleep(wait)
                elif not self.conn.recv(1, socket.MSG_PEEK):
                    raise ConnectionError("client left during a stall")
                else:
                    time.sleep(min(wait, 0.05))
            if self.origin.dead:
                raise ConnectionError("killed")

    def portion(self, wanted):
        """The next piece to send after waiting for its turn."""
        self.origin.gate.wait()
        if self.origin.dead:
            raise ConnectionError("killed")
        n = min(wanted, self.room())
        buckets = []
        if self.in_body or self.actions.get("from_head"):
            buckets = self.buckets + ([self.origin.bucket] if self.origin.bucket else [])
        if buckets:
            n = min([n] + [b.portion() for b in buckets])
            wait = max(b.draw(n) for b in buckets)
            if wait > 0:
                self.stall(wait) if wait > 1 else time.sleep(wait)
        return n

    def account(self, n):
        self.sent += n
        if self.in_body and n:
            if self.call["t_first"] is None:
                self.call["t_first"] = time.monotonic()
            self.call["sent"] += n

    def write(self, data, counted=True):
        view, at = memoryview(data), 0
        while at < len(view):
            n = self.conn.send(view[at:at + self.portion(len(view) - at)])
            at += n
            self.account(n if counted else 0)
        self.room()

    def send_file(self, path, offset, length):
        with open(path, "rb") as f:
            end = offset + length
            while offset < end:
                n = self.portion(min(end - offset, 4 << 20))
                n = os.sendfile(self.conn.fileno(), f.fileno(), offset, n)
                if n == 0:
                    raise ConnectionError("file became shorter")
                offset += n
                self.account(n)
        self.room()


def hang_up(conn):
    """Closes a connection with RST after what was written has left, so that the client sees exactly those bytes."""
    try:
        for _ in range(400):
            if struct.unpack("i", fcntl.ioctl(conn.fileno(), termios.TIOCOUTQ, b"\0\0\0\0"))[0] == 0:
                break
            time.sleep(0.005)
        conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        conn.close()
    except (OSError, ValueError):
        pass


def abandon(conn, reset):
    """Makes the thread that owns a connection give it up: with FIN, or (reset) with RST when it closes."""
    try:
        if reset:
            conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        conn.shutdown(socket.SHUT_RD if reset else socket.SHUT_RDWR)
    except (OSError, ValueError):
        pass


def finish(conn, patience=1.0):
    """FIN, then reads what the client still sends, so that the kernel does not turn the close into a RST."""
    try:
        conn.shutdown(socket.SHUT_WR)
        conn.settimeout(patience)
        while conn.recv(65536):
            pass
    except (OSError, ValueError):
        pass
