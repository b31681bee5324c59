// Runs named scenarios of permessage-deflate with the package `ws` and prints `ok NAME` or `FAIL NAME why` for each.
// The environment says where: E2E_URL (WebSocket), E2E_API, E2E_API_KEY. The limits are those of the server's configuration:
// 65536 bytes of a message as it comes; once it is inflated, that and 4 times what came, or 655360 in the scenario `limit`.

import assert from 'node:assert/strict';
import zlib from 'node:zlib';
import WebSocket from 'ws';

const { E2E_URL, E2E_API, E2E_API_KEY } = process.env;

/** How long anything awaited may take, in milliseconds. */
const PATIENCE = 15000;

const INFLATED_BYTES_MAX = 655360;

const scenarios = {
  async answers_offers() {
    const plain = 'permessage-deflate; server_no_context_takeover; client_no_context_takeover';
    for (const [offer, want] of [
      [{}, plain],
      [{ serverMaxWindowBits: 10 }, `${plain}; server_max_window_bits=10`],
      [{ clientMaxWindowBits: 10 }, plain],
      [{ serverNoContextTakeover: true, clientNoContextTakeover: true }, plain],
      [false, ''],
    ]) {
      const peer = await Peer.connect(offer);
      assert.equal(peer.answer, want, JSON.stringify(offer));
    }
  },

  // The same messages in the same order for everybody, and fewer bytes for those that inflate.
  async same_messages(name) {
    const offers = [false, {}, false, {}, { serverMaxWindowBits: 9 }, {}];
    const peers = await Promise.all(offers.map((offer) => Peer.connect(offer)));
    const channel = `chat:${name}`;
    await Promise.all(peers.map((peer) => peer.call({ subscribe: { channel } })));
    const before = peers.map((peer) => peer.bytes());
    const sent = [];
    for (const length of [0, 1, 10, 100, 500, 5000, 33000, 70000, 300000]) {
      for (const data of [text(length), noise(length)]) {
        await api('publish', { channel, data });
        sent.push(data);
      }
      await api('publish', { channel, data: { length, list: Array(length % 997).fill('é€😀') } });
      sent.push({ length, list: Array(length % 997).fill('é€😀') });
    }
    for (const peer of peers) {
      assert.deepEqual(await peer.publications(sent.length), sent);
    }
    const took = peers.map((peer, at) => peer.bytes() - before[at]);
    const plain = took[0];
    assert.ok(took[4] > 0.99 * plain, `a small window gets all as it is: ${took}`);
    for (const at of [1, 3, 5]) assert.ok(took[at] < 0.7 * plain, `${took}`);
  },

  // What a client deflates, whole, in fragments with a ping between, and with pieces of a frame arriving late.
  async takes_deflated(name) {
    const channel = `chat:${name}`;
    const [peer, listener] = [await Peer.connect({ threshold: 0 }), await Peer.connect(false)];
    await listener.call({ subscribe: { channel } });
    await peer.call({ subscribe: { channel } });
    // Longer than a plain message may be, and not so plain that it is taken for a bomb.
    const long = noiseBytes(45000).toString('hex');
    await peer.call({ publish: { channel, data: long } });
    const command = JSON.stringify({ id: 1000, publish: { channel, data: 'in fragments '.repeat(100) } });
    const packed = deflate(command);
    const third = Math.floor(packed.length / 3);
    peer.raw(0x41, packed.subarray(0, third));
    peer.raw(0x89, Buffer.from('p'));
    peer.raw(0x00, packed.subarray(third, 2 * third));
    await new Promise((resolve) => setTimeout(resolve, 20));
    peer.raw(0x80, packed.subarray(2 * third));
    await peer.reply(1000);
    // A last block that says so, and what the specification puts behind it.
    const last = JSON.stringify({ id: 1001, publish: { channel, data: 'last '.repeat(50) } });
    peer.raw(0xc1, Buffer.concat([zlib.deflateRawSync(last), Buffer.from([0])]));
    await peer.reply(1001);
    assert.deepEqual(await listener.publications(3), [long, 'in fragments '.repeat(100), 'last '.repeat(50)]);
  },

  // Closed with its code, whatever it inflates to.
  async bombs() {
    for (let at = 0; at < 40; at++) {
      const peer = await Peer.connect({});
      // A thousand to one, and what goes on is broken.
      const bomb = deflate(Buffer.alloc(60_000_000, 'a'), 9);
      assert.ok(bomb.length < 65536);
      peer.raw(0xc1, bomb);
      assert.deepEqual(await peer.closed, [1009, 'message too big after decompression']);
    }
    const command = (length) => {
      const frame = (data) => JSON.stringify({ id: 1000, publish: { channel: 'chat:bombs', data } });
      return frame('a'.repeat(length - frame('').length));
    };
    const peer = await Peer.connect({});
    await peer.call({ subscribe: { channel: 'chat:bombs' } });
    peer.raw(0xc1, deflate(command(65536)));
    await peer.reply(1000);
    // Far below ten times the limit, but made of few bytes.
    peer.raw(0xc1, deflate(command(2 * 65536)));
    assert.deepEqual(await peer.closed, [1009, 'message too big after decompression']);
  },

  // Where a limit is configured, it alone counts.
  async limit() {
    const command = (length) => {
      const frame = (data) => JSON.stringify({ id: 1000, publish: { channel: 'chat:limit', data } });
      return frame('a'.repeat(length - frame('').length));
    };
    const peer = await Peer.connect({});
    await peer.call({ subscribe: { channel: 'chat:limit' } });
    peer.raw(0xc1, deflate(command(INFLATED_BYTES_MAX)));
    await peer.reply(1000);
    peer.raw(0xc1, deflate(command(INFLATED_BYTES_MAX + 1)));
    assert.deepEqual(await peer.closed, [1009, 'message too big after decompression']);
  },

  async broken() {
    const good = deflate('{"id":7,"ping":{}}'.repeat(20));
    for (const [first, payload, code] of [
      [0xc1, Buffer.from([0xff, 0xff, 0xff]), 1007],
      [0xc1, Buffer.alloc(0), 1007],
      [0xc1, good.subarray(0, good.length - 5), 1007],
      [0xc1, deflate(Buffer.from(`{"id":7,"x":"${'a'.repeat(50)}\xff"}`, 'latin1')), 1007],
      [0xc9, Buffer.from('p'), 1002],
      [0xc0, good, 1002],
      [0xa1, good, 1002],
      [0xc1, Buffer.concat([Buffer.alloc(1), noiseBytes(65536)]), 1009],
    ]) {
      const peer = await Peer.connect({});
      peer.raw(first, payload);
      assert.equal((await peer.closed)[0], code, `${first} ${payload.subarray(0, 20).toString('hex')}`);
    }
  },

  // By a server without compression, or for a client that does not offer it.
  async not_negotiated() {
    for (const offer of [{}, false]) {
      const peer = await Peer.connect(offer);
      assert.equal(peer.answer, '');
      peer.raw(0xc1, deflate('{"id":7,"ping":{}}'));
      assert.equal((await peer.closed)[0], 1002);
    }
  },
};

/** A connection of the client protocol in JSON. */
class Peer {
  static open = [];

  /** Connects with an offer of the extension, or with none. */
  static async connect(perMessageDeflate) {
    const peer = new Peer(new WebSocket(E2E_URL, { perMessageDeflate }));
    await within(new Promise((resolve) => peer.socket.on('open', resolve)), 'an open socket');
    await peer.call({ connect: {} });
    return peer;
  }

  constructor(socket) {
    Peer.open.push(this);
    this.socket = socket;
    this.id = 0;
    this.replies = new Map();
    this.seen = [];
    this.changed = () => {};
    this.closed = within(new Promise((resolve) => socket.on('close', (code, why) => resolve([code, String(why)]))), 'a close');
    this.closed.catch(() => {});
    socket.on('error', () => {});
    socket.on('upgrade', (response) => (this.answer = response.headers['sec-websocket-extensions'] ?? ''));
    socket.on('message', (frame) => {
      for (const line of String(frame).split('\n')) this.take(JSON.parse(line));
      this.changed();
    });
  }

  take(message) {
    if (message.id) this.replies.set(message.id, message);
    if (message.push?.pub) this.seen.push(message.push.pub.data);
    if (Object.keys(message).length === 0) this.socket.send('{}');
  }

  /** Bytes that came over the socket. */
  bytes() {
    return this.socket._socket.bytesRead;
  }

  async call(command) {
    const id = ++this.id;
    this.socket.send(JSON.stringify({ id, ...command }));
    return this.reply(id);
  }

  async reply(id) {
    await this.until(() => this.replies.has(id), `reply ${id}`);
    const reply = this.replies.get(id);
    assert.ok(!reply.error, JSON.stringify(reply));
    return reply;
  }

  async publications(count) {
    await this.until(() => this.seen.length >= count, `${count} publications`);
    return this.seen;
  }

  /** Sends a frame past the library. */
  raw(first, payload) {
    const length = payload.length;
    const size = length < 126 ? [0x80 | length] : [0xfe, length >> 8, length & 255];
    if (length > 65535) size.splice(0, 3, 0xff, 0, 0, 0, 0, 0, length >> 16, (length >> 8) & 255, length & 255);
    this.socket._socket.write(Buffer.concat([Buffer.from([first, ...size, 0, 0, 0, 0]), payload]));
  }

  until(done, what) {
    return within(new Promise((resolve) => {
      this.changed = () => done() && resolve();
      this.changed();
    }), what);
  }
}

function within(promise, what) {
  const late = new Promise((_, reject) => setTimeout(() => reject(new Error(`no ${what}`)), PATIENCE).unref());
  return Promise.race([promise, late]);
}

/** As RFC 7692 wants a message. */
function deflate(message, level = 6) {
  const packed = zlib.deflateRawSync(message, { level, finishFlush: zlib.constants.Z_SYNC_FLUSH });
  return packed.subarray(0, packed.length - 4);
}

function text(length) {
  return 'All work and no play makes Jack a dull boy. '.repeat(length / 44 + 1).slice(0, length);
}

function noiseBytes(length) {
  const bytes = Buffer.alloc(length);
  for (let at = 0, state = 7; at < length; at++) bytes[at] = (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) >>> 24;
  return bytes;
}

function noise(length) {
  return noiseBytes(length).toString('base64').slice(0, length);
}

async function api(method, body) {
  const response = await fetch(`${E2E_API}/api/${method}`, {
    method: 'POST', headers: { 'X-API-Key': E2E_API_KEY }, body: JSON.stringify(body),
  });
  const reply = await response.json();
  assert.ok(reply.result, `${method}: ${JSON.stringify(reply)}`);
}

async function run(name) {
  try {
    await scenarios[name](name);
    console.log(`ok ${name}`);
    return true;
  } catch (error) {
    console.log(`FAIL ${name} ${String(error?.stack ?? error).replaceAll('\n', ' | ').slice(0, 4000)}`);
    return false;
  } finally {
    for (const peer of Peer.open.splice(0)) peer.socket.terminate();
  }
}

let failed = 0;
for (const name of process.argv.slice(2)) {
  if (!(await run(name))) failed++;
}
process.exit(failed === 0 ? 0 : 1);
