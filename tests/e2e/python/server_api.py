"""Every method of the official server library for Python that the open source server has, over both of its clients."""
import asyncio
import os

import cent

from stage import equal, expiry, token, unpack


class Both:
    """Calls the same method of the blocking and of the asynchronous client in turn, so that both are exercised."""

    def __init__(self):
        where = "%s/api" % os.environ["E2E_API"], os.environ["E2E_API_KEY"]
        self.blocking, self.asynchronous, self.calls = cent.Client(*where), cent.AsyncClient(*where), 0

    def __getattr__(self, method):
        async def call(request):
            self.calls += 1
            if self.calls % 2:
                return await asyncio.to_thread(getattr(self.blocking, method), request)
            return await getattr(self.asynchronous, method)(request)
        return call

    async def close(self):
        self.blocking.close()
        await self.asynchronous.close()


async def server_api(s):
    server = Both()
    try:
        await publishing(s, server)
        await reading(s, server)
        await users(s, server)
        await batches(s, server)
    finally:
        await server.close()


async def publishing(s, server):
    one, two = s.channel("chat"), s.channel("chat")
    connection = await s.connect()
    first, second = await s.subscribe(connection, one), await s.subscribe(connection, two)
    for n in range(4):
        result = await server.publish(cent.PublishRequest(channel=one, data={"n": n}, tags={"a": "b"}))
        equal(result.offset, n + 1)
        assert result.epoch
    equal(await first.numbers(4), [0, 1, 2, 3])
    for _ in range(2):
        again = cent.PublishRequest(channel=one, data={"n": 4}, idempotency_key="once")
        equal((await server.publish(again)).offset, 5)
    await server.publish(cent.PublishRequest(channel=one, data={"n": 5}, skip_history=True))
    equal(await first.numbers(2), [4, 5])
    for n in range(2):
        result = await server.broadcast(cent.BroadcastRequest(channels=[one, two], data={"n": 10 + n}))
        equal([reply.result.offset for reply in result.responses], [6 + n, 1 + n])
    equal(await first.numbers(2), [10, 11])
    equal(await second.numbers(2), [10, 11])
    try:
        await server.publish(cent.PublishRequest(channel=s.channel("nowhere"), data={}))
    except cent.CentApiResponseError as error:
        equal(error.code, 102)
    else:
        raise AssertionError("a publication to an unknown namespace")


async def reading(s, server):
    channel = s.channel("chat")
    user = s.name("user")
    connection = await s.connect(token({"sub": user, "info": {"name": "Ada"}}))
    await s.subscribe(connection, channel)
    for n in range(5):
        await server.publish(cent.PublishRequest(channel=channel, data={"n": n}))
    for _ in range(2):
        presence = (await server.presence(cent.PresenceRequest(channel=channel))).presence
        equal([(info.client, info.user, info.conn_info) for info in presence.values()],
              [(connection.id, user, {"name": "Ada"})])
        stats = await server.presence_stats(cent.PresenceStatsRequest(channel=channel))
        equal((stats.num_clients, stats.num_users), (1, 1))
        everything = await server.history(cent.HistoryRequest(channel=channel, limit=100))
        equal([publication.data["n"] for publication in everything.publications], [0, 1, 2, 3, 4])
        since = cent.StreamPosition(offset=everything.offset - 2, epoch=everything.epoch)
        some = await server.history(cent.HistoryRequest(channel=channel, limit=2, since=since, reverse=True))
        equal([publication.data["n"] for publication in some.publications], [1, 0])
        found = await server.channels(cent.ChannelsRequest(pattern=channel))
        equal({name: info.num_clients for name, info in found.channels.items()}, {channel: 1})
        [node] = (await server.info(cent.InfoRequest())).nodes
        # The reference counts anew every three seconds only.
        assert node.uid and node.name and node.version and node.num_clients >= 0, node
        await server.history_remove(cent.HistoryRemoveRequest(channel=channel))
        empty = await server.history(cent.HistoryRequest(channel=channel, limit=100))
        equal((empty.publications, empty.offset >= 5), ([], True))
        for n in range(5):
            await server.publish(cent.PublishRequest(channel=channel, data={"n": n}))


async def users(s, server):
    for round in range(2):
        user, channel = s.name("user"), s.channel("private")
        connection, other = await s.connect(token({"sub": user})), await s.connect(token({"sub": user}))
        subscribe = cent.SubscribeRequest(user=user, channel=channel, client=connection.id, data={"round": round})
        await server.subscribe(subscribe)
        context = await connection.events.take("subscribed")
        equal((context.channel, unpack(context.data)), (channel, {"round": round}))
        await server.publish(cent.PublishRequest(channel=channel, data={"n": round}))
        equal(await connection.numbers(1), [round])
        await server.unsubscribe(cent.UnsubscribeRequest(user=user, channel=channel))
        equal((await connection.events.take("unsubscribed")).channel, channel)
        await server.refresh(cent.RefreshRequest(user=user, client=connection.id, expire_at=expiry(60)))
        await server.refresh(cent.RefreshRequest(user=user, client=connection.id, expired=True))
        equal((await connection.events.take("connecting")).code, 3005)
        await connection.events.take("connected")
        custom = cent.Disconnect(code=4500, reason="go away")
        keep = [other.id]
        await server.disconnect(cent.DisconnectRequest(user=user, whitelist=keep, disconnect=custom))
        context = await connection.events.take("disconnected")
        equal((context.code, context.reason), (4500, "go away"))
        await server.disconnect(cent.DisconnectRequest(user=user))
        equal((await other.events.take("disconnected")).code, 3503)


async def batches(s, server):
    channel = s.channel("chat")
    for round, parallel in enumerate([False, False, True, True]):
        requests = [cent.PublishRequest(channel=channel, data={"n": round}),
                    cent.PresenceStatsRequest(channel=channel), cent.InfoRequest()]
        replies = (await server.batch(cent.BatchRequest(requests=requests, parallel=parallel))).replies
        equal((len(replies), replies[0].offset, replies[1].num_clients, len(replies[2].nodes)), (3, round + 1, 0, 1))
