"""Runs named scenarios with the official Python client and prints `ok NAME` or `FAIL NAME why` for each.

The environment says where, see stage.py. The same names exist in JavaScript and Go, but for `server_api`.
"""
import asyncio
import sys
import traceback

import centrifuge

from server_api import server_api
from stage import PATIENCE, Stage, Subscription, api, control, equal, expiry, pack, publish_numbers, refused, token, unpack


async def connect_anonymous(s):
    assert (await s.connect()).id


async def connect_token(s):
    connection = await s.connect(token({"sub": "ada"}))
    subscription = await s.subscribe(connection, s.channel("chat"))
    result = await subscription.sub.presence()
    equal({client: info.user for client, info in result.clients.items()}, {connection.id: "ada"})


async def connect_wrong_token(s):
    connection = s.client(token({"sub": "ada"}, "another secret"))
    await connection.client.connect()
    equal((await connection.events.take("disconnected")).code, 3500)


async def receive(s):
    channel = s.channel("chat")
    subscription = await s.subscribe(await s.connect(), channel)
    data = {"text": 'h\u00e9llo \u2713 "quoted"', "number": 1.5, "list": [1, {"a": None}], "empty": {}}
    await api("publish", {"channel": channel, "data": data, "tags": {"lang": "fr"}})
    [pub] = await subscription.publications(1)
    equal(unpack(pub.data), data)
    equal(pub.tags, {"lang": "fr"})
    equal(pub.offset, 1)


async def publish(s):
    channel = s.channel("chat")
    one, two = await s.connect(token({"sub": "ada"})), await s.connect()
    first, second = await s.subscribe(one, channel), await s.subscribe(two, channel)
    for n in range(10):
        await first.sub.publish(pack({"n": n}))
    equal(await first.numbers(10), list(range(10)))
    received = await second.publications(10)
    equal([unpack(pub.data)["n"] for pub in received], list(range(10)))
    equal((received[0].info.client, received[0].info.user), (one.id, "ada"))


async def recover(s):
    channel = s.channel("chat")
    connection = await s.connect()
    subscription = await s.subscribe(connection, channel)
    await publish_numbers(channel, 1, 2)
    await subscription.numbers(2)
    await s.cut(connection)
    await publish_numbers(channel, 3, 7)
    await control("heal")
    context = await subscription.events.take("subscribed")
    assert context.was_recovering and context.recovered, context
    await publish_numbers(channel, 8, 8)
    received = await subscription.publications(6)
    equal([unpack(pub.data)["n"] for pub in received], [3, 4, 5, 6, 7, 8])
    equal([pub.offset for pub in received], [3, 4, 5, 6, 7, 8])


async def recover_too_late(s):
    channel = s.channel("short")
    connection = await s.connect()
    subscription = await s.subscribe(connection, channel)
    await publish_numbers(channel, 1, 1)
    await subscription.numbers(1)
    await s.cut(connection)
    await publish_numbers(channel, 2, 10)
    await control("heal")
    context = await subscription.events.take("subscribed")
    assert context.was_recovering and not context.recovered, context
    await publish_numbers(channel, 11, 11)
    await subscription.events.take("publication", lambda context: unpack(context.pub.data)["n"] == 11)


async def history(s):
    channel = s.channel("chat")
    subscription = await s.subscribe(await s.connect(), channel)
    await publish_numbers(channel, 1, 5)

    async def numbers(**options):
        result = await subscription.sub.history(**options)
        equal(result.offset, 5)
        return [unpack(pub.data)["n"] for pub in result.publications]
    equal(await numbers(limit=3), [1, 2, 3])
    equal(await numbers(limit=-1), [1, 2, 3, 4, 5])
    equal(await numbers(), [])
    epoch = (await subscription.sub.history()).epoch
    assert epoch
    position = centrifuge.StreamPosition
    equal(await numbers(limit=10, since=position(2, epoch)), [3, 4, 5])
    equal(await numbers(limit=2, reverse=True), [5, 4])
    equal(await numbers(limit=10, since=position(4, epoch), reverse=True), [3, 2, 1])
    await refused(112, subscription.sub.history(limit=1, since=position(2, "other")))


async def presence(s):
    channel = s.channel("chat")
    users = {}
    for user in ("ada", "ada", "bob"):
        connection = await s.connect(token({"sub": user, "info": {"name": user}}))
        subscription = await s.subscribe(connection, channel)
        users[connection.id] = user
    result = await subscription.sub.presence()
    equal({client: info.user for client, info in result.clients.items()}, users)
    equal({client: unpack(info.conn_info) for client, info in result.clients.items()},
          {client: {"name": user} for client, user in users.items()})
    equal(await subscription.sub.presence_stats(), centrifuge.PresenceStatsResult(num_clients=3, num_users=2))


async def join_leave(s):
    channel = s.channel("chat")
    watcher = await s.connect()
    subscription = await s.subscribe(watcher, channel, join_leave=True)
    connection = await s.connect(token({"sub": "bob"}))
    await s.subscribe(connection, channel)
    joined = await subscription.events.take("join", lambda context: context.info.user == "bob")
    equal(joined.info.client, connection.id)
    await connection.client.disconnect()
    left = await subscription.events.take("leave", lambda context: context.info.user == "bob")
    equal(left.info.client, connection.id)
    equal(list((await subscription.sub.presence()).clients), [watcher.id])


async def rpc_error(s):
    connection = await s.connect()
    await refused(108, connection.client.rpc("nothing", pack({})))


async def unknown_channel(s):
    subscription = Subscription(await s.connect(), s.channel("nowhere"))
    await subscription.sub.subscribe()
    equal((await subscription.events.take("unsubscribed")).code, 102)


async def permission_denied(s):
    channel = s.channel("private")
    connection = await s.connect(token({"sub": "ada"}))
    subscription = Subscription(connection, channel)
    await subscription.sub.subscribe()
    equal((await subscription.events.take("unsubscribed")).code, 103)
    await refused(103, connection.client.publish(channel, pack({})))
    await refused(108, connection.client.presence(channel))


async def subscription_token(s):
    channel = s.channel("private")
    connection = await s.connect(token({"sub": "ada"}))
    right = token({"sub": "ada", "channel": channel})
    subscription = await s.subscribe(connection, channel, token=right)
    await publish_numbers(channel, 1, 1)
    equal(await subscription.numbers(1), [1])
    other = Subscription(connection, s.channel("private"), token=right)
    await other.sub.subscribe()
    equal((await connection.events.take("disconnected")).code, 3500)


async def unsubscribe(s):
    channel = s.channel("chat")
    connection, witness = await s.connect(token({"sub": "ada"})), await s.connect()
    subscription = await s.subscribe(connection, channel)
    other = await s.subscribe(witness, channel, join_leave=True)
    await subscription.sub.unsubscribe()
    await subscription.events.take("unsubscribed")
    await other.events.take("leave", lambda context: context.info.user == "ada")
    await publish_numbers(channel, 1, 1)
    equal(await other.numbers(1), [1])
    await connection.client.presence_stats(channel)
    assert subscription.events.queues["on_publication"].empty()
    await subscription.sub.subscribe()
    await subscription.events.take("subscribed")
    await api("unsubscribe", {"channel": channel, "user": "ada"})
    equal((await subscription.events.take("unsubscribed")).code, 2000)


async def disconnect_terminal(s):
    user = s.name("user")
    connection = await s.connect(token({"sub": user}))
    await api("disconnect", {"user": user})
    equal((await connection.events.take("disconnected")).code, 3503)


async def disconnect_reconnect(s):
    user, channel = s.name("user"), s.channel("chat")
    connection = await s.connect(token({"sub": user}))
    subscription = await s.subscribe(connection, channel)
    await api("disconnect", {"user": user, "disconnect": {"code": 4001, "reason": "come back"}})
    context = await connection.events.take("connecting")
    equal((context.code, context.reason), (4001, "come back"))
    await connection.events.take("connected")
    await subscription.events.take("subscribed")
    await publish_numbers(channel, 1, 1)
    equal(await subscription.numbers(1), [1])


async def connect_expired_token(s):
    asked = []

    async def get_token():
        asked.append(True)
        return token({"sub": "ada", "exp": expiry(60)})
    await s.connect(token({"sub": "ada", "exp": expiry(-60)}), get_token=get_token)
    equal(len(asked), 1)


async def token_refresh(s):
    channel = s.channel("private")
    connection_asked, subscription_asked = asyncio.Queue(), asyncio.Queue()

    async def connection_token():
        connection_asked.put_nowait(True)
        return token({"sub": "ada", "exp": expiry(3)})

    async def subscription_token(of):
        subscription_asked.put_nowait(True)
        return token({"sub": "ada", "channel": of, "exp": expiry(3)})
    connection = await s.connect(get_token=connection_token)
    subscription = await s.subscribe(connection, channel, get_token=subscription_token)
    for _ in range(3):
        await asyncio.wait_for(connection_asked.get(), PATIENCE)
        await asyncio.wait_for(subscription_asked.get(), PATIENCE)
    await publish_numbers(channel, 1, 1)
    equal(await subscription.numbers(1), [1])
    assert connection.events.queues["on_connecting"].empty()
    assert subscription.events.queues["on_subscribed"].empty()


async def server_side_subscription(s):
    channel = s.channel("chat")
    connection = await s.connect(token({"sub": "ada", "channels": [channel]}))
    equal((await connection.events.take("subscribed")).channel, channel)
    await publish_numbers(channel, 1, 2)
    equal(await connection.numbers(2), [1, 2])
    await s.cut(connection)
    await publish_numbers(channel, 3, 5)
    await control("heal")
    context = await connection.events.take("subscribed")
    assert context.was_recovering and context.recovered, context
    await publish_numbers(channel, 6, 6)
    equal(await connection.numbers(4), [3, 4, 5, 6])


async def api_subscribe(s):
    user, channel = s.name("user"), s.channel("chat")
    connection = await s.connect(token({"sub": user}))
    await api("subscribe", {"user": user, "channel": channel})
    equal((await connection.events.take("subscribed")).channel, channel)
    await publish_numbers(channel, 1, 1)
    equal(await connection.numbers(1), [1])
    await api("unsubscribe", {"user": user, "channel": channel})
    equal((await connection.events.take("unsubscribed")).channel, channel)


async def delta(s):
    channel = s.channel("delta")
    connection = await s.connect()
    subscription = await s.subscribe(connection, channel, delta=centrifuge.DeltaType.FOSSIL)

    def document(n):
        return {"n": n, "text": "the quick brown fox jumps over the lazy dog " * 20, "last": n * n}

    async def publish_documents(first, last):
        for n in range(first, last + 1):
            await api("publish", {"channel": channel, "data": document(n)})

    async def seen(first, last):
        received = await subscription.publications(last - first + 1)
        equal([unpack(pub.data) for pub in received], [document(n) for n in range(first, last + 1)])
    await publish_documents(1, 5)
    await seen(1, 5)
    await s.cut(connection)
    await publish_documents(6, 9)
    await control("heal")
    assert (await subscription.events.take("subscribed")).recovered
    await publish_documents(10, 12)
    await seen(6, 12)


async def tags_filter(s):
    channel = s.channel("tags")
    french = await s.subscribe(await s.connect(), channel, tags_filter=centrifuge.Filter.eq("lang", "fr"))
    dear = await s.subscribe(await s.connect(), channel, tags_filter=centrifuge.Filter.gt("price", "9.5"))
    everything = await s.subscribe(await s.connect(), channel)
    for n in range(1, 21):
        tags = {"lang": "fr" if n % 2 else "en", "price": str(n)}
        await api("publish", {"channel": channel, "data": {"n": n}, "tags": tags})
    await everything.numbers(20)
    equal(await french.numbers(10), list(range(1, 21, 2)))
    equal(await dear.numbers(11), list(range(10, 21)))


async def spread(s):
    channel = s.channel("chat")
    connections = await asyncio.gather(*(s.connect() for _ in range(32)))
    receivers = await asyncio.gather(*(s.subscribe(connection, channel) for connection in connections))
    await publish_numbers(channel, 1, 20)
    for receiver in receivers:
        equal(await receiver.numbers(20), list(range(1, 21)))
    equal((await receivers[0].sub.presence_stats()).num_clients, 32)


SCENARIOS = [
    connect_anonymous, connect_token, connect_wrong_token, receive, publish, recover, recover_too_late, history,
    presence, join_leave, rpc_error, unknown_channel, permission_denied, subscription_token, unsubscribe,
    disconnect_terminal, disconnect_reconnect, connect_expired_token, token_refresh, server_side_subscription,
    api_subscribe, delta, tags_filter, spread, server_api,
]


async def run(scenario):
    stage = Stage(scenario.__name__)
    try:
        await scenario(stage)
        print("ok", scenario.__name__)
        return True
    except Exception:
        print("FAIL", scenario.__name__, traceback.format_exc().replace("\n", " | "))
        await control("heal")
        return False
    finally:
        await stage.close()


async def main(names):
    known = {scenario.__name__: scenario for scenario in SCENARIOS}
    passed = [await run(known[name]) for name in names]
    return 0 if all(passed) else 1


sys.exit(asyncio.run(main(sys.argv[1:])))
