"""What the scenarios share: clients and subscriptions that keep their events, the server API, the relay, tokens.

The environment says where: E2E_URL (WebSocket, through the relay), E2E_API, E2E_CONTROL (the relay's), E2E_API_KEY,
E2E_SECRET, E2E_PROTOCOL (json or protobuf).
"""
import asyncio
import base64
import hashlib
import hmac
import json
import os
import time
import urllib.request
import uuid

import centrifuge

PROTOBUF = os.environ["E2E_PROTOCOL"] == "protobuf"

# How long anything awaited may take, in seconds.
PATIENCE = 15.0


class Events:
    """Event handlers of a client or a subscription that keep what came, by name, in its order."""

    def __init__(self, names):
        self.queues = {name: asyncio.Queue() for name in names}

    def __getattr__(self, name):
        if not name.startswith("on_"):
            raise AttributeError(name)

        async def keep(context):
            if name in self.queues:
                self.queues[name].put_nowait(context)
        return keep

    async def take(self, name, wanted=lambda context: True):
        """The next event that is wanted; others of that name before it are forgotten."""
        while True:
            try:
                context = await asyncio.wait_for(self.queues["on_" + name].get(), PATIENCE)
            except asyncio.TimeoutError:
                raise AssertionError("no event " + name) from None
            if wanted(context):
                return context


class Connection:
    """A client with its events."""

    def __init__(self, options):
        self.events = Events(["on_connected", "on_connecting", "on_disconnected",
                              "on_subscribed", "on_unsubscribed", "on_publication"])
        self.client = centrifuge.Client(
            os.environ["E2E_URL"], events=self.events, **options, use_protobuf=PROTOBUF, timeout=PATIENCE,
            min_reconnect_delay=0.05, max_reconnect_delay=0.2, proxy=None)
        self.id = None

    async def numbers(self, count):
        """Numbers in as many publications of server-side subscriptions."""
        return [unpack((await self.events.take("publication")).pub.data)["n"] for _ in range(count)]


class Subscription:
    """A subscription with its events."""

    def __init__(self, connection, channel, **options):
        self.events = Events(["on_subscribed", "on_unsubscribed", "on_publication", "on_join", "on_leave"])
        self.sub = connection.client.new_subscription(channel, events=self.events, **options)

    async def publications(self, count):
        return [(await self.events.take("publication")).pub for _ in range(count)]

    async def numbers(self, count):
        return [unpack(pub.data)["n"] for pub in await self.publications(count)]


class Stage:
    """What one scenario opened, to close it afterwards, and names nobody else uses."""

    def __init__(self, scenario):
        self.scenario = scenario
        self.connections = []

    def name(self, prefix):
        return "%s-%s-%s" % (prefix, self.scenario, uuid.uuid4())

    def channel(self, namespace):
        return "%s:%s" % (namespace, self.name("python"))

    def client(self, token="", **options):
        connection = Connection({"token": token, **options})
        self.connections.append(connection)
        return connection

    async def connect(self, token="", **options):
        connection = self.client(token, **options)
        await connection.client.connect()
        connection.id = (await connection.events.take("connected")).client
        await connection.events.take("connecting")
        return connection

    async def subscribe(self, connection, channel, **options):
        subscription = Subscription(connection, channel, **options)
        await subscription.sub.subscribe()
        await subscription.events.take("subscribed")
        return subscription

    async def cut(self, connection):
        """Cuts every connection through the relay and returns once the client has noticed."""
        await control("cut")
        await connection.events.take("connecting")

    async def close(self):
        for connection in self.connections:
            await connection.client.disconnect()


def http(url, headers, body):
    request = urllib.request.Request(url, data=body, headers=headers, method="POST")
    with urllib.request.urlopen(request, timeout=PATIENCE) as response:
        return response.read()


async def control(order):
    await asyncio.to_thread(http, "%s/%s" % (os.environ["E2E_CONTROL"], order), {}, b"")


async def api(method, body):
    url = "%s/api/%s" % (os.environ["E2E_API"], method)
    headers = {"X-API-Key": os.environ["E2E_API_KEY"], "Content-Type": "application/json"}
    reply = json.loads(await asyncio.to_thread(http, url, headers, json.dumps(body).encode()))
    assert "result" in reply, "%s: %s" % (method, reply)


async def publish_numbers(channel, first, last):
    for n in range(first, last + 1):
        await api("publish", {"channel": channel, "data": {"n": n}})


def expiry(seconds):
    """As many seconds from now, as claims want it."""
    return int(time.time()) + seconds


def token(claims, secret=os.environ["E2E_SECRET"]):
    """A JWT with HS256."""
    def encode(data):
        return base64.urlsafe_b64encode(data).rstrip(b"=")
    signed = encode(b'{"alg":"HS256","typ":"JWT"}') + b"." + encode(json.dumps(claims).encode())
    return (signed + b"." + encode(hmac.new(secret.encode(), signed, hashlib.sha256).digest())).decode()


def pack(value):
    """Data as the client wants it: bytes for Protobuf, a value for JSON."""
    return json.dumps(value).encode() if PROTOBUF else value


def unpack(data):
    return json.loads(data) if PROTOBUF else data


def equal(got, want):
    assert got == want, "got %r, want %r" % (got, want)


async def refused(code, call):
    try:
        await call
    except centrifuge.ReplyError as error:
        equal(error.code, code)
    else:
        raise AssertionError("not refused with %d" % code)
