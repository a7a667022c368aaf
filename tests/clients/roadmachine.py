# SPDX-License-Identifier: Apache-2.0
"""Machines whose programs know of no cache: no HF_ENDPOINT, but the road to it that an administrator has laid.

  ProxyMachine(folder / "m", "hub2", road)        HTTPS_PROXY is the daemon, and its CA is trusted
  NamedMachine(folder / "m", None, road)          the names of the Hub lead to the daemon's TLS listener; no proxy is set
"""
import json
import os
import random
import socket

from machine import NAMED, SECONDS, Machine
from tlsroad import ROAD_OPTIONS

NODE = os.environ.get("HFCACHED_NODE", "node")    # another Node than the installed one
NAMES = ("huggingface.co", "hf.co", "router.huggingface.co", "api-inference.huggingface.co", "datasets-server.huggingface.co")


def free_address():
    """An address of this machine with port 443 free, of its own for each test; None where that port may not be used."""
    for _ in range(20):
        address = f"127.{random.randint(1, 254)}.{random.randint(0, 255)}.{random.randint(1, 254)}"
        try:
            with socket.create_server((address, 443)):
                return address
        except PermissionError:
            return None
        except OSError:
            pass
    return None


def named_options(address):
    return ROAD_OPTIONS | {"intercept_listen": f"{address}:443"}


class ProxyMachine(Machine):
    """road: tlsroad.Road. What each kind of program reads is set, as docs/interception.md says."""

    def __init__(self, home, client, road, token=None):
        super().__init__(home, client, road.daemon.url, token)
        self.ca = self.home / "hfcached-ca.pem"
        self.ca.write_text(road.pem)

    def trust(self):
        return {name: str(self.ca) for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS",
                                                "GIT_SSL_CAINFO")}

    def environment(self):
        return {k: v for k, v in super().environment().items() if k != "HF_ENDPOINT"} | self.trust() | {
            "HTTPS_PROXY": self.url, "https_proxy": self.url, "NODE_USE_ENV_PROXY": "1"}

    def node(self, script, wanted, environment=()):
        """[(name, arguments)] to a script; its values."""
        done = self.run([NODE, str(script), json.dumps(wanted)], environment=environment)
        assert done.returncode == 0, f"{wanted}: exit code {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        out = []
        for (name, arguments), result in zip(wanted, json.loads(done.stdout.strip().splitlines()[-1]), strict=True):
            assert "value" in result, f"{name} {arguments}: {result}"
            out.append(result["value"])
        return out


class NamedMachine(ProxyMachine):
    def __init__(self, home, client, road, token=None):
        super().__init__(home, client, road, token)
        self.address = road.listener()[0]

    def environment(self):
        return {k: v for k, v in super().environment().items() if k not in ("HTTPS_PROXY", "https_proxy", "NODE_USE_ENV_PROXY")}

    def naming(self):
        hosts, switch = (self.home.with_name(f"{self.home.name}.{name}") for name in ("hosts", "nsswitch"))
        hosts.write_text(f"127.0.0.1 localhost\n{self.address} {' '.join(NAMES)}\n")
        switch.write_text("hosts: files\n")
        return [*NAMED, str(hosts), str(switch)]

    def check_addresses(self, addresses, allowed=()):
        places = {self.address, *NAMES, *(repr(name.encode()) for name in NAMES)}    # as Python's audit hook tells them
        foreign = {(host, port) for host, port in addresses if (host not in places or port != 443) and port not in allowed}
        assert not foreign, f"the client connected to others than {self.address}:443: {sorted(foreign)}"


__all__ = ["NAMES", "NODE", "SECONDS", "NamedMachine", "ProxyMachine", "free_address", "named_options"]
