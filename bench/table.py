#!/usr/bin/env python3
"""Measures the table of RESULTS.md: every row on a fresh server pinned to one core, the tool on another, the floor in the
same run, and the reference server (--reference) right after it. Python 3.9 or newer, Linux, two cores, a quiet machine.

    cargo build --release
    python3 bench/table.py --reference /path/to/centrifugo --rounds 3 > table.md

The exact-delivery checks of ringcast-bench are on: a row with a lost, doubled, reordered, changed or late delivery ends the run.
Costs are microseconds of server CPU; each figure is a median of all windows of all rounds, with the least and the greatest.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SECRET, KEY = "secret", "key"
ALLOW = {"allow_subscribe_for_client": True, "allow_subscribe_for_anonymous": True}
PUBLISH = {"allow_publish_for_client": True, "allow_publish_for_anonymous": True}

# Name, unit, arguments, whether the scenario talks to the HTTP API, whether it measures a floor.
ROWS = [
    ("fan-out to 1000, one outstanding", "delivery", "fanout --spin --seconds 6", True, True),
    ("fan-out to 1000, 16 publishers", "delivery", "fanout --outstanding 16 --seconds 5", True, True),
    ("fan-out to 1000, one API batch of 16", "delivery", "fanout --batch 16 --seconds 5", True, True),
    ("fan-out to 5000, one outstanding", "delivery", "fanout --subscribers 5000 --spin --seconds 8", True, True),
    ("HTTP API publish, 8 connections", "request", "api --connections 8 --seconds 4", True, True),
    ("HTTP API batch of 100", "publication", "api --connections 8 --batch 100 --seconds 3", True, True),
    ("publish over HTTP to a channel with one subscriber", "publication", "channels --spin --seconds 5", True, True),
    ("the same in batches of 100", "publication", "channels --batch 100 --spin --seconds 5", True, True),
    ("client publishes, 2 subscribers", "publication", "publish --channel-prefix open: --subscribers 2 --seconds 4", False, True),
    ("client publishes, 10 subscribers", "publication", "publish --channel-prefix open: --subscribers 10 --seconds 4", False, True),
    ("client publishes, 100 subscribers", "publication", "publish --channel-prefix open: --subscribers 100 --seconds 5", False, True),
    ("connect + subscribe", "connection", "connect", False, True),
    ("connect + subscribe with token", "connection", f"connect --token-secret {SECRET}", False, True),
    ("idle connection, own channel", "ping and pong", "idle --connections 10000 --subscribe-own --hold 27", False, True),
]


def config(port, is_reference, more):
    settings = {
        "http_server": {"port": str(port), "address": "127.0.0.1"},
        "http_api": {"key": KEY},
        "client": {"allow_anonymous_connect_without_token": True, "token": {"hmac_secret_key": SECRET}},
        "channel": {"without_namespace": ALLOW, "namespaces": [{"name": "open", **ALLOW, **PUBLISH}]},
    }
    return {**settings, **more} if is_reference else {**settings, **more, "shards": 1}


class Server:
    """A server on core 0 for the time of a `with`. `more` are keys of its configuration."""

    def __init__(self, binary, port, is_reference, more=None):
        self.binary, self.port, self.is_reference = binary, port, is_reference
        self.more = more or {}

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory()
        file = Path(self.folder.name, "config.json")
        file.write_text(json.dumps(config(self.port, self.is_reference, self.more)))
        log = open(Path(self.folder.name, "log"), "w")
        command = ["taskset", "-c", "0", self.binary, "--config", str(file)]
        self.process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "GOMAXPROCS": "1"})
        for _ in range(100):
            time.sleep(0.1)
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return self
        sys.exit(f"{self.binary} does not listen on port {self.port}: " + Path(log.name).read_text()[-2000:])

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        self.folder.cleanup()


def run(bench, server, arguments, api, floor, transport="websocket", secure=False):
    command = [bench, *arguments.split(), "--json", "--pin", "1", "--pid", str(server.process.pid), "--transport", transport]
    scheme, s = "ws" if transport.endswith("websocket") else "http", "s" if secure else ""
    command += ["--url", f"{scheme}{s}://127.0.0.1:{server.port}/connection/{transport}"]
    if secure:
        command.append("--insecure")
    if api:
        command += ["--api", f"http{s}://127.0.0.1:{server.port}/api", "--api-key", KEY]
    if floor:
        command.append("--floor")
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return json.loads(done.stdout)


def costs(report):
    if report["scenario"] == "idle":
        return [report["cpu_per_ping_us"]]
    return [window["server_cpu_us"] for window in report["each_window"]]


def figure(values, digits=2):
    if not values:
        return "-"
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


class Row:
    """What all rounds found about one row."""

    def __init__(self):
        self.own, self.reference, self.floor, self.ratios = [], [], [], []
        self.p99, self.reference_p99, self.bytes, self.reference_bytes = [], [], [], []

    def add(self, report):
        self.own += costs(report)
        self.ratios += [report["floor_ratio"][name] for name in ("min", "median", "max") if "floor_ratio" in report]
        self.p99 += [report["latency"]["p99_us"] / 1000] if "latency" in report else []
        self.bytes += [report["bytes_per_connection"]] if "bytes_per_connection" in report else []

    def add_reference(self, report):
        self.reference += costs(report)
        self.reference_p99 += [report["latency"]["p99_us"] / 1000] if "latency" in report else []
        self.reference_bytes += [report["bytes_per_connection"]] if "bytes_per_connection" in report else []

    def cells(self, name, unit):
        ratio = statistics.median(self.own) / statistics.median(self.reference) if self.reference else None
        p99 = " / ".join(figure(values, 1) for values in (self.p99, self.reference_p99) if values)
        cells = [f"{name}, per {unit}", figure(self.own), figure(self.ratios), figure(self.reference)]
        cells += [f"{ratio:.2f}" if ratio else "-", p99 or "-"]
        lines = [cells]
        if self.bytes:
            found, other = figure(self.bytes, 0), figure(self.reference_bytes, 0)
            share = statistics.median(self.bytes) / statistics.median(self.reference_bytes) if self.reference_bytes else None
            lines.append(["idle connection, resident bytes", found, "-", other, f"{share:.3f}" if share else "-", "-"])
        return lines


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--server", default="target/release/ringcast", help="the server [default: %(default)s]")
    options.add_argument("--bench", default="target/release/ringcast-bench", help="the tool [default: %(default)s]")
    options.add_argument("--reference", help="another server of the protocol, measured beside")
    options.add_argument("--rounds", type=int, default=1, help="times that everything is measured [default: %(default)s]")
    options.add_argument("--only", default="", help="rows whose name contains this")
    options.add_argument("--port", type=int, default=18600, help="and the one behind it [default: %(default)s]")
    options = options.parse_args()

    rows = [row for row in ROWS if options.only in row[0]]
    found = {row[0]: Row() for row in rows}
    for _ in range(options.rounds):
        for name, _, arguments, api, floor in rows:
            print(name, file=sys.stderr)
            with Server(options.server, options.port, False) as server:
                found[name].add(run(options.bench, server, arguments, api, floor))
            if options.reference:
                with Server(options.reference, options.port + 1, True) as server:
                    found[name].add_reference(run(options.bench, server, arguments, api, False))

    print("| work | ringcast, us | to the floor of the run | reference, us | ratio | p99, ms, ours / reference |")
    print("|---|---|---|---|---|---|")
    for name, unit, *_ in rows:
        for cells in found[name].cells(name, unit):
            print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
