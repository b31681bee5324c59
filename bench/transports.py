#!/usr/bin/env python3
"""Measures the transports of RESULTS.md: fan-out, latency and idle memory, plain and with TLS, each on a fresh server pinned to one
core, the tool on another, and the reference server (--reference) right after it. One round goes through all of them, so that ratios are
of runs that followed each other. Python 3.9 or newer, Linux, two cores, a quiet machine, openssl for the certificate.

    cargo build --release && cargo build --release -p ringcast-bench
    python3 bench/transports.py --reference /path/to/centrifugo --rounds 3
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from table import Server, costs, figure, run

TRANSPORTS = ["websocket", "http_stream", "sse", "uni_websocket", "uni_http_stream", "uni_sse"]

# Scenario, arguments, what is read from its report.
SCENARIOS = {
    "fanout": ("fanout --spin --seconds 2", costs),
    "batch": ("fanout --batch 16 --seconds 2", costs),
    "latency": ("latency --subscribers 20 --rate 2000 --windows 3 --seconds 2", lambda report: report["each_window"]),
    "idle": ("idle --connections 10000 --subscribe-own --hold 3", lambda report: [report["bytes_per_connection"]]),
}


def certificate(folder):
    """Keys of the configuration for TLS with a key of P-256."""
    pair = {"cert_pem": str(Path(folder, "certificate.pem")), "key_pem": str(Path(folder, "key.pem"))}
    command = "openssl req -x509 -nodes -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -days 30 -subj /CN=localhost"
    subprocess.run([*command.split(), "-out", pair["cert_pem"], "-keyout", pair["key_pem"]], check=True, capture_output=True)
    return {"enabled": True, **pair}


def measure(options, scenario, transport, tls, is_reference):
    more = {name: {"enabled": True} for name in TRANSPORTS if name != "websocket"}
    if tls:
        server = {"port": str(options.port), "address": "127.0.0.1", "tls": tls}
        more = {**more, "http_server": server}
    binary = options.reference if is_reference else options.server
    arguments, read = SCENARIOS[scenario]
    with Server(binary, options.port, is_reference, more) as server:
        return read(run(options.bench, server, arguments, scenario != "idle", False, transport, bool(tls)))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", default="target/release/ringcast", help="the server [default: %(default)s]")
    parser.add_argument("--bench", default="target/release/ringcast-bench", help="the tool [default: %(default)s]")
    parser.add_argument("--reference", help="another server of the protocol, measured beside")
    parser.add_argument("--rounds", type=int, default=1, help="times that everything is measured [default: %(default)s]")
    parser.add_argument("--scenarios", nargs="+", default=list(SCENARIOS), choices=SCENARIOS)
    parser.add_argument("--transports", nargs="+", default=TRANSPORTS, choices=TRANSPORTS)
    parser.add_argument("--port", type=int, default=18600, help="[default: %(default)s]")
    options = parser.parse_args()

    # By scenario, transport, whether with TLS, whether the reference: the figures of each round.
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        ways = [(transport, tls) for tls in (None, certificate(folder)) for transport in options.transports]
        for _ in range(options.rounds):
            for scenario in options.scenarios:
                for transport, tls in ways:
                    for is_reference in (False, True) if options.reference else (False,):
                        key = (scenario, transport, bool(tls), is_reference)
                        print(*key, file=sys.stderr)
                        found.setdefault(key, []).append(measure(options, scenario, transport, tls, is_reference))

    for scenario in options.scenarios:
        print(f"\n{scenario}: {SCENARIOS[scenario][0]}\n")
        table = latency_table if scenario == "latency" else cost_table
        table([(*key[1:], rounds) for key, rounds in found.items() if key[0] == scenario])


def flat(rounds):
    return [value for values in rounds for value in values]


def ratio(rounds, others):
    """Of runs that followed each other."""
    pairs = zip(rounds, others)
    return figure([statistics.median(a) / statistics.median(b) for a, b in pairs])


def cost_table(rows):
    rounds = {row[:3]: row[3] for row in rows}
    print("| transport | ringcast | to websocket | to plain | reference | ratio |\n|---|---|---|---|---|---|")
    for (transport, tls, is_reference), own in rounds.items():
        if is_reference:
            continue
        other = rounds.get((transport, tls, True), [])
        socket = rounds.get(("websocket", tls, False), [])
        plain = rounds[(transport, False, False)] if tls else []
        cells = [transport + ", TLS" * tls, figure(flat(own)), ratio(own, socket), ratio(own, plain)]
        print("| " + " | ".join([*cells, figure(flat(other)), ratio(own, other)]) + " |")


def latency_table(rows):
    print("| transport | server | p50, us | p99, us |\n|---|---|---|---|")
    for transport, tls, is_reference, rounds in rows:
        figures = [figure([window["latency"][name] for window in flat(rounds)], 0) for name in ("p50_us", "p99_us")]
        print("| " + " | ".join([transport + ", TLS" * tls, "reference" if is_reference else "ringcast", *figures]) + " |")


if __name__ == "__main__":
    main()
