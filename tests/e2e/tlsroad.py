# SPDX-License-Identifier: Apache-2.0
"""The roads of clients that name the Hub: CONNECT and TLS to the daemon, as a Connection of wire.py; and hosts with TLS of their own.

  road = Road(daemon)                                      daemon: started with ROAD_OPTIONS
  road.get("/acme/pub/resolve/main/config.json")           through CONNECT huggingface.co:443
  road.connect("router.huggingface.co", by="tls")          a TlsConnection, straight to the TLS listener

Never     takes an end without close_notify for a clean one: `ended` is then "rst".
"""
import socket
import ssl
import subprocess
import threading

from wire import TIMEOUT, Answer, Connection, fields

HUB = "huggingface.co"
ROAD_OPTIONS = {"intercept_enabled": "yes", "intercept_listen": "127.0.0.1:0"}


class Refused(Exception):
    """A CONNECT that was not answered 200; .answer says how."""

    def __init__(self, answer):
        super().__init__(str(answer))
        self.answer = answer


def connect_to(conn, target, headers=()):
    """Sends a CONNECT and reads its answer; raises Refused."""
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}", *(f"{k}: {v}" for k, v in headers)]
    conn.send(("\r\n".join(lines) + "\r\n\r\n").encode())
    answer = conn.head()
    if answer.status != 200:
        raise Refused(conn.body(answer) if answer.status else answer)
    assert not conn.buffer and answer["Content-Length"] is None and answer["Transfer-Encoding"] is None
    return answer


class TlsConnection(Connection):
    """by: "connect" (CONNECT on `address` first) or "tls". sni: what the client asks for; the host unless told otherwise."""

    def __init__(self, address, context, host=HUB, by="connect", sni=None, headers=(), **how):
        super().__init__(address, **how)
        if by == "connect":
            connect_to(self, f"{host}:443", headers)
        self.plain = self.socket
        self.socket = context.wrap_socket(self.plain, server_hostname=sni or host, suppress_ragged_eofs=False)
        self.host = host

    def _more(self):
        try:
            return super()._more()
        except (ssl.SSLEOFError, ssl.SSLError):
            self.ended = "rst"
            return False


class Road:
    """A daemon that intercepts, and a client that trusts its CA and nothing else."""

    def __init__(self, daemon):
        self.daemon = daemon
        self.pem = daemon.get("/-/ca.pem", host=daemon.host).text

    def context(self, **how):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=self.pem)
        context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
        for name, value in how.items():
            setattr(context, name, value)
        return context

    def listener(self):
        host, _, port = self.daemon.log_lines(msg="listening for intercepted clients")[0]["address"].rpartition(":")
        return host, int(port)

    def address(self, by):
        return self.listener() if by == "tls" else ("127.0.0.1", self.daemon.port)

    def connect(self, host=HUB, by="connect", context=None, **how):
        return TlsConnection(self.address(by), context or self.context(), host, by, **how)

    def ask(self, method, target, token=None, headers=(), body=None, host=HUB, says=None, by="connect", timeout=TIMEOUT, keep=True,
            **named):
        """One request. host: whom the client means; says: its Host field, where that differs."""
        with self.connect(host, by, timeout=timeout) as conn:
            conn.request(method, target, fields(token, headers, Connection="close", **named), body, host=says or host)
            return conn.read(keep=keep)

    def get(self, target, token=None, **how):
        return self.ask("GET", target, token, **how)


def plain_connection(daemon, **how):
    return Connection(("127.0.0.1", daemon.port), **how)


def openssl(*words, **how):
    done = subprocess.run(["openssl", *words], capture_output=True, text=True, **how)
    return done.returncode, done.stdout + done.stderr


class TlsHost:
    """A host elsewhere, with a certificate of its own: answers each line with itself in capitals until the client has ended."""

    def __init__(self, folder, name="elsewhere.example.org", address="127.0.0.1"):
        key, self.certificate = folder / f"{name}.key", folder / f"{name}.crt"
        code, said = openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj",
                             f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}", "-keyout", str(key), "-out", str(self.certificate))
        assert code == 0, said
        self.name, self.served = name, 0
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(self.certificate, key)
        self.socket = socket.create_server((address, 0))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                conn, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(conn,), daemon=True).start()

    def _serve(self, conn):
        self.served += 1
        try:
            with self.context.wrap_socket(conn, server_side=True) as tls:
                while line := tls.recv(65536):
                    tls.sendall(line.upper())
        except OSError:
            pass

    def close(self):
        self.socket.close()

    def client_context(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cafile=self.certificate)
        return context


__all__ = ["HUB", "ROAD_OPTIONS", "Answer", "Refused", "Road", "TlsConnection", "TlsHost", "connect_to", "openssl", "plain_connection"]
