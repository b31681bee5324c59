// Runs named scenarios with the official JavaScript client and prints `ok NAME` or `FAIL NAME why` for each.
// The environment says where: E2E_URL (WebSocket, through the relay), E2E_API, E2E_CONTROL (the relay's), E2E_API_KEY,
// E2E_SECRET, E2E_PROTOCOL (json or protobuf), E2E_SOCKJS (transport of SockJS, instead of WebSocket). A scenario is one exported promise of behaviour; the same names exist
// in Go and Python.

import assert from 'node:assert/strict';
import crypto from 'node:crypto';
import { Centrifuge as JsonClient } from 'centrifuge';
import { Centrifuge as ProtobufClient } from 'centrifuge/build/protobuf';
import SockJS from 'sockjs-client';
import WebSocket from 'ws';

const { E2E_URL, E2E_API, E2E_CONTROL, E2E_API_KEY, E2E_SECRET, E2E_PROTOCOL, E2E_SOCKJS } = process.env;
const protobuf = E2E_PROTOCOL === 'protobuf';
const Client = protobuf ? ProtobufClient : JsonClient;

/** How long anything awaited may take, in milliseconds. */
const PATIENCE = 15000;

const scenarios = {
  async connect_anonymous(t) {
    const { connected } = await t.connect();
    assert.ok(connected.client.length > 0);
  },

  async connect_token(t) {
    const channel = t.channel('chat');
    const { client } = await t.connect({ token: token({ sub: 'ada' }) });
    const { sub } = await t.subscribe(client, channel);
    const { clients } = await sub.presence();
    assert.deepEqual(Object.values(clients).map((info) => info.user), ['ada']);
  },

  async connect_wrong_token(t) {
    const client = t.client({ token: token({ sub: 'ada' }, 'another secret') });
    const disconnected = event(client, 'disconnected');
    client.connect();
    assert.equal((await disconnected).code, 3500);
  },

  async receive(t) {
    const channel = t.channel('chat');
    const { client } = await t.connect();
    const { sub, seen } = await t.subscribe(client, channel);
    const data = { text: 'h\u00e9llo \u2713 "quoted"', number: 1.5, list: [1, { a: null }], empty: {} };
    await api('publish', { channel, data, tags: { lang: 'fr' } });
    await seen.count(1);
    assert.deepEqual(seen.data(), [data]);
    assert.deepEqual(seen.all[0].tags, { lang: 'fr' });
    assert.equal(seen.all[0].offset, 1);
    assert.equal(sub.state, 'subscribed');
  },

  async publish(t) {
    const channel = t.channel('chat');
    const one = await t.connect({ token: token({ sub: 'ada' }) });
    const two = await t.connect();
    const first = await t.subscribe(one.client, channel);
    const second = await t.subscribe(two.client, channel);
    for (let i = 0; i < 10; i++) await first.sub.publish(pack({ i }));
    await Promise.all([first.seen.count(10), second.seen.count(10)]);
    const wanted = Array.from({ length: 10 }, (_, i) => ({ i }));
    assert.deepEqual(first.seen.data(), wanted);
    assert.deepEqual(second.seen.data(), wanted);
    assert.equal(second.seen.all[0].info.client, one.connected.client);
    assert.equal(second.seen.all[0].info.user, 'ada');
  },

  async recover(t) {
    const channel = t.channel('chat');
    const { client } = await t.connect();
    const { sub, seen } = await t.subscribe(client, channel);
    await publishNumbers(channel, 1, 2);
    await seen.count(2);
    await t.cut(client);
    await publishNumbers(channel, 3, 7);
    const subscribed = event(sub, 'subscribed');
    await control('heal');
    const context = await subscribed;
    assert.ok(context.wasRecovering && context.recovered);
    await publishNumbers(channel, 8, 8);
    await seen.count(8);
    assert.deepEqual(seen.numbers(), [1, 2, 3, 4, 5, 6, 7, 8]);
    assert.deepEqual(seen.all.map((p) => p.offset), [1, 2, 3, 4, 5, 6, 7, 8]);
  },

  async recover_too_late(t) {
    const channel = t.channel('short');
    const { client } = await t.connect();
    const { sub, seen } = await t.subscribe(client, channel);
    await publishNumbers(channel, 1, 1);
    await seen.count(1);
    await t.cut(client);
    await publishNumbers(channel, 2, 10);
    const subscribed = event(sub, 'subscribed');
    await control('heal');
    const context = await subscribed;
    assert.ok(context.wasRecovering && !context.recovered);
    await publishNumbers(channel, 11, 11);
    await seen.until(() => seen.numbers().includes(11));
  },

  async history(t) {
    const channel = t.channel('chat');
    const { client } = await t.connect();
    const { sub } = await t.subscribe(client, channel);
    await publishNumbers(channel, 1, 5);
    const numbers = async (options) => {
      const result = await sub.history(options);
      assert.equal(result.offset, 5);
      return result.publications.map((p) => unpack(p.data).n);
    };
    assert.deepEqual(await numbers({ limit: 3 }), [1, 2, 3]);
    assert.deepEqual(await numbers({ limit: -1 }), [1, 2, 3, 4, 5]);
    assert.deepEqual(await numbers({}), []);
    const { epoch } = await sub.history({});
    assert.ok(epoch.length > 0);
    assert.deepEqual(await numbers({ limit: 10, since: { offset: 2, epoch } }), [3, 4, 5]);
    assert.deepEqual(await numbers({ limit: 2, reverse: true }), [5, 4]);
    assert.deepEqual(await numbers({ limit: 10, since: { offset: 4, epoch }, reverse: true }), [3, 2, 1]);
    await refused(112, () => sub.history({ limit: 1, since: { offset: 2, epoch: 'other' } }));
  },

  async presence(t) {
    const channel = t.channel('chat');
    const members = [];
    for (const user of ['ada', 'ada', 'bob']) {
      const { client, connected } = await t.connect({ token: token({ sub: user, info: { name: user } }) });
      const { sub } = await t.subscribe(client, channel);
      members.push({ user, client, id: connected.client, sub });
    }
    const { clients } = await members[0].sub.presence();
    for (const { id, user } of members) {
      assert.equal(clients[id].user, user);
      assert.deepEqual(unpack(clients[id].connInfo), { name: user });
    }
    assert.equal(Object.keys(clients).length, 3);
    const stats = await members[2].sub.presenceStats();
    assert.deepEqual(stats, { numClients: 3, numUsers: 2 });
  },

  async join_leave(t) {
    const channel = t.channel('chat');
    const watcher = await t.connect();
    const { sub } = await t.subscribe(watcher.client, channel, { joinLeave: true });
    const joined = event(sub, 'join', (context) => context.info.user === 'bob');
    const left = event(sub, 'leave', (context) => context.info.user === 'bob');
    const { client, connected } = await t.connect({ token: token({ sub: 'bob' }) });
    await t.subscribe(client, channel);
    assert.equal((await joined).info.client, connected.client);
    client.disconnect();
    assert.equal((await left).info.client, connected.client);
    const { clients } = await sub.presence();
    assert.deepEqual(Object.keys(clients), [watcher.connected.client]);
  },

  async rpc_error(t) {
    const { client } = await t.connect();
    await refused(108, () => client.rpc('nothing', pack({})));
  },

  /** Backends decide; see tests/e2e/proxies/decisions.rs for what they say. */
  async proxied(t) {
    const { client, connected } = await t.connect({ data: pack({ from: 'client' }) });
    assert.deepEqual(unpack(connected.data), { hello: 1 });
    const channel = t.channel('asked');
    const sub = client.newSubscription(channel);
    const seen = new Seen(sub);
    const subscribed = event(sub, 'subscribed');
    sub.subscribe();
    assert.deepEqual(unpack((await subscribed).data), { welcome: 1 });
    await sub.publish(pack({ n: 1 }));
    await seen.count(1);
    assert.deepEqual(seen.data(), [{ changed: 1 }]);
    assert.deepEqual(seen.all[0].tags, { by: 'backend' });
    assert.equal(seen.all[0].info.user, 'ada');
    const { data } = await client.rpc('sum', pack([1, 2]));
    assert.deepEqual(unpack(data), { sum: 3 });
  },

  async unknown_channel(t) {
    const { client } = await t.connect();
    const sub = client.newSubscription(t.channel('nowhere'));
    const unsubscribed = event(sub, 'unsubscribed');
    sub.subscribe();
    assert.equal((await unsubscribed).code, 102);
  },

  async permission_denied(t) {
    const channel = t.channel('private');
    const { client } = await t.connect({ token: token({ sub: 'ada' }) });
    const sub = client.newSubscription(channel);
    const unsubscribed = event(sub, 'unsubscribed');
    sub.subscribe();
    assert.equal((await unsubscribed).code, 103);
    await refused(103, () => client.publish(channel, pack({})));
    await refused(108, () => client.presence(channel));
  },

  async subscription_token(t) {
    const channel = t.channel('private');
    const { client } = await t.connect({ token: token({ sub: 'ada' }) });
    const { seen } = await t.subscribe(client, channel, { token: token({ sub: 'ada', channel }) });
    await publishNumbers(channel, 1, 1);
    await seen.count(1);
    const other = client.newSubscription(t.channel('private'), { token: token({ sub: 'ada', channel }) });
    const disconnected = event(client, 'disconnected');
    other.subscribe();
    assert.equal((await disconnected).code, 3500);
  },

  async unsubscribe(t) {
    const channel = t.channel('chat');
    const { client } = await t.connect({ token: token({ sub: 'ada' }) });
    const witness = await t.connect();
    const { sub, seen } = await t.subscribe(client, channel);
    const other = await t.subscribe(witness.client, channel, { joinLeave: true });
    const left = event(other.sub, 'leave');
    sub.unsubscribe();
    await left;
    await publishNumbers(channel, 1, 1);
    await other.seen.count(1);
    await client.presenceStats(channel);
    assert.deepEqual(seen.all, []);
    const again = event(sub, 'subscribed');
    sub.subscribe();
    await again;
    const unsubscribed = event(sub, 'unsubscribed');
    await api('unsubscribe', { channel, user: 'ada' });
    assert.equal((await unsubscribed).code, 2000);
  },

  async disconnect_terminal(t) {
    const user = t.name('user');
    const { client } = await t.connect({ token: token({ sub: user }) });
    const disconnected = event(client, 'disconnected');
    await api('disconnect', { user });
    assert.equal((await disconnected).code, 3503);
  },

  async disconnect_reconnect(t) {
    const user = t.name('user');
    const channel = t.channel('chat');
    const { client } = await t.connect({ token: token({ sub: user }) });
    const { seen } = await t.subscribe(client, channel);
    const connecting = event(client, 'connecting');
    const connected = event(client, 'connected');
    await api('disconnect', { user, disconnect: { code: 4001, reason: 'come back' } });
    const { code, reason } = await connecting;
    assert.deepEqual({ code, reason }, { code: 4001, reason: 'come back' });
    await connected;
    await publishNumbers(channel, 1, 1);
    await seen.count(1);
  },

  async connect_expired_token(t) {
    let asked = 0;
    const getToken = async () => {
      asked++;
      return token({ sub: 'ada', exp: now() + 60 });
    };
    await t.connect({ token: token({ sub: 'ada', exp: now() - 60 }), getToken });
    assert.equal(asked, 1);
  },

  async token_refresh(t) {
    const channel = t.channel('private');
    const connection = new Asked(() => token({ sub: 'ada', exp: now() + 3 }));
    const subscription = new Asked(() => token({ sub: 'ada', channel, exp: now() + 3 }));
    const { client } = await t.connect({ getToken: () => connection.answer() });
    const { sub, seen } = await t.subscribe(client, channel, { getToken: () => subscription.answer() });
    let lost = 0;
    client.on('connecting', () => lost++);
    sub.on('subscribing', () => lost++);
    await Promise.all([connection.times(3), subscription.times(3)]);
    await publishNumbers(channel, 1, 1);
    await seen.count(1);
    assert.equal(lost, 0);
  },

  async server_side_subscription(t) {
    const channel = t.channel('chat');
    const client = t.client({ token: token({ sub: 'ada', channels: [channel] }) });
    const seen = new Seen(client);
    const subscribed = event(client, 'subscribed');
    client.connect();
    assert.equal((await subscribed).channel, channel);
    await publishNumbers(channel, 1, 2);
    await seen.count(2);
    await t.cut(client);
    await publishNumbers(channel, 3, 5);
    const again = event(client, 'subscribed');
    await control('heal');
    const context = await again;
    assert.ok(context.wasRecovering && context.recovered);
    await publishNumbers(channel, 6, 6);
    await seen.count(6);
    assert.deepEqual(seen.numbers(), [1, 2, 3, 4, 5, 6]);
    assert.ok(seen.all.every((context) => context.channel === channel));
  },

  async api_subscribe(t) {
    const user = t.name('user');
    const channel = t.channel('chat');
    const { client } = await t.connect({ token: token({ sub: user }) });
    const seen = new Seen(client);
    const subscribed = event(client, 'subscribed');
    await api('subscribe', { user, channel });
    assert.equal((await subscribed).channel, channel);
    await publishNumbers(channel, 1, 1);
    await seen.count(1);
    const unsubscribed = event(client, 'unsubscribed');
    await api('unsubscribe', { user, channel });
    assert.equal((await unsubscribed).channel, channel);
  },

  async delta(t) {
    const channel = t.channel('delta');
    const { client } = await t.connect();
    const { sub, seen } = await t.subscribe(client, channel, { delta: 'fossil' });
    const document = (n) => ({ n, text: 'the quick brown fox jumps over the lazy dog '.repeat(20), last: n * n });
    const publishDocuments = async (first, last) => {
      for (let n = first; n <= last; n++) await api('publish', { channel, data: document(n) });
    };
    await publishDocuments(1, 5);
    await seen.count(5);
    await t.cut(client);
    await publishDocuments(6, 9);
    const subscribed = event(sub, 'subscribed');
    await control('heal');
    assert.ok((await subscribed).recovered);
    await publishDocuments(10, 12);
    await seen.count(12);
    assert.deepEqual(seen.data(), Array.from({ length: 12 }, (_, i) => document(i + 1)));
    assert.ok(sub.deltaStats().numDeltaPayloads >= 8, JSON.stringify(sub.deltaStats()));
  },

  async tags_filter(t) {
    const channel = t.channel('tags');
    const one = await t.connect();
    const two = await t.connect();
    const three = await t.connect();
    const french = await t.subscribe(one.client, channel, { tagsFilter: { key: 'lang', cmp: 'eq', val: 'fr' } });
    const dear = await t.subscribe(two.client, channel, { tagsFilter: { key: 'price', cmp: 'gt', val: '9.5' } });
    const all = await t.subscribe(three.client, channel);
    for (let n = 1; n <= 20; n++) {
      const tags = { lang: n % 2 ? 'fr' : 'en', price: String(n) };
      await api('publish', { channel, data: { n }, tags });
    }
    await all.seen.count(20);
    await french.seen.count(10);
    await dear.seen.count(11);
    assert.deepEqual(french.seen.numbers(), [1, 3, 5, 7, 9, 11, 13, 15, 17, 19]);
    assert.deepEqual(dear.seen.numbers(), [10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20]);
  },

  async spread(t) {
    const channel = t.channel('chat');
    const receivers = await Promise.all(Array.from({ length: 32 }, async () => {
      const { client } = await t.connect();
      return t.subscribe(client, channel);
    }));
    await publishNumbers(channel, 1, 20);
    const wanted = Array.from({ length: 20 }, (_, i) => i + 1);
    for (const { seen } of receivers) {
      await seen.count(20);
      assert.deepEqual(seen.numbers(), wanted);
    }
    const stats = await receivers[0].sub.presenceStats();
    assert.equal(stats.numClients, 32);
  },
};

/** What one scenario opened, to close it afterwards, and names nobody else uses. */
class Stage {
  constructor(scenario) {
    this.scenario = scenario;
    this.clients = [];
  }

  name(prefix) {
    return `${prefix}-${this.scenario}-${crypto.randomUUID()}`;
  }

  channel(namespace) {
    return `${namespace}:${this.name('js')}`;
  }

  client(options = {}) {
    const transports = E2E_SOCKJS ? [{ transport: 'sockjs', endpoint: E2E_URL }] : E2E_URL;
    const client = new Client(transports, {
      websocket: WebSocket, sockjs: SockJS, sockjsOptions: { transports: [E2E_SOCKJS] },
      // In Node the SockJS client does not see that a response breaks off: the missing pings must tell.
      maxServerPingDelay: E2E_SOCKJS ? 2000 : 10000, minReconnectDelay: 50, maxReconnectDelay: 200, timeout: PATIENCE, ...options,
    });
    this.clients.push(client);
    return client;
  }

  async connect(options) {
    const client = this.client(options);
    const event_ = event(client, 'connected');
    client.connect();
    return { client, connected: await event_ };
  }

  async subscribe(client, channel, options = {}) {
    const sub = client.newSubscription(channel, options);
    const seen = new Seen(sub);
    const subscribed = event(sub, 'subscribed');
    sub.subscribe();
    await subscribed;
    return { sub, seen };
  }

  /** Cuts every connection through the relay and returns once the client has noticed. */
  async cut(client) {
    const connecting = event(client, 'connecting');
    await control('cut');
    await connecting;
  }

  close() {
    for (const client of this.clients) client.disconnect();
  }
}

/** Publications of a subscription, or of a client's server-side ones, in the order in which they came. */
class Seen {
  constructor(source) {
    this.all = [];
    this.source = source;
    source.on('publication', (context) => this.all.push(context));
  }

  data() {
    return this.all.map((context) => unpack(context.data));
  }

  numbers() {
    return this.data().map((data) => data.n);
  }

  count(wanted) {
    return this.until(() => this.all.length >= wanted);
  }

  async until(done) {
    if (!done()) await event(this.source, 'publication', () => done());
  }
}

/** A source of tokens that counts how often it is asked. */
class Asked {
  constructor(make) {
    this.make = make;
    this.count = 0;
    this.waiting = [];
  }

  async answer() {
    this.count++;
    this.waiting = this.waiting.filter((waiting) => !waiting());
    return this.make();
  }

  times(wanted) {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`asked ${this.count} times, not ${wanted}`)), PATIENCE);
      const waiting = () => {
        if (this.count < wanted) return false;
        clearTimeout(timer);
        resolve();
        return true;
      };
      if (!waiting()) this.waiting.push(waiting);
    });
  }
}

/** The next event of this name that `wanted` takes. */
function event(emitter, name, wanted = () => true) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`no event ${name}`)), PATIENCE);
    const handler = (context) => {
      if (!wanted(context)) return;
      clearTimeout(timer);
      emitter.removeListener(name, handler);
      resolve(context);
    };
    emitter.on(name, handler);
  });
}

async function refused(code, call) {
  await assert.rejects(call, (error) => {
    assert.equal(error.code, code);
    return true;
  });
}

async function api(method, body) {
  const response = await fetch(`${E2E_API}/api/${method}`, {
    method: 'POST', headers: { 'X-API-Key': E2E_API_KEY }, body: JSON.stringify(body),
  });
  const reply = await response.json();
  assert.ok(reply.result, `${method}: ${JSON.stringify(reply)}`);
  return reply.result;
}

async function publishNumbers(channel, first, last) {
  for (let n = first; n <= last; n++) await api('publish', { channel, data: { n } });
}

async function control(order) {
  await fetch(`${E2E_CONTROL}/${order}`, { method: 'POST' });
}

/** Seconds since 1970. */
function now() {
  return Math.floor(Date.now() / 1000);
}

/** A JWT with HS256. */
function token(claims, secret = E2E_SECRET) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const signed = `${part({ alg: 'HS256', typ: 'JWT' })}.${part(claims)}`;
  return `${signed}.${crypto.createHmac('sha256', secret).update(signed).digest('base64url')}`;
}

/** Data as the client wants it: bytes for Protobuf, a value for JSON. */
function pack(value) {
  return protobuf ? new TextEncoder().encode(JSON.stringify(value)) : value;
}

function unpack(data) {
  return protobuf ? JSON.parse(new TextDecoder().decode(data)) : data;
}

async function run(name) {
  const stage = new Stage(name);
  try {
    await scenarios[name](stage);
    console.log(`ok ${name}`);
    return true;
  } catch (error) {
    console.log(`FAIL ${name} ${String(error?.stack ?? error?.message ?? JSON.stringify(error)).replaceAll('\n', ' | ')}`);
    await control('heal');
    return false;
  } finally {
    stage.close();
  }
}

let failed = 0;
for (const name of process.argv.slice(2)) {
  if (!(await run(name))) failed++;
}
process.exit(failed === 0 ? 0 : 1);
