// Plays the official JavaScript client over one transport after the other in a headless Chromium: connect, receive, be answered,
// lose the connection, recover. Prints `ok TRANSPORT` for each.
// The environment says where: E2E_PAGE (any page of the server), E2E_API, E2E_API_KEY, E2E_CHROMIUM (path of the browser),
// E2E_TRANSPORTS (JSON: a list of {name, transport, endpoint, emulation, options, via, files, protocol}; `via` is what the client
// must call its connection, `files` is {address: file} for what the page may load, `protocol` is what must carry the page and its emulated commands),
// E2E_SCRIPTS (JSON: script files for the page), E2E_FLAGS (JSON: more flags for the browser).

import assert from 'node:assert/strict';
import crypto from 'node:crypto';
import { chromium } from 'playwright-core';

const { E2E_PAGE, E2E_API, E2E_API_KEY, E2E_CHROMIUM } = process.env;
const transports = JSON.parse(process.env.E2E_TRANSPORTS);
const scripts = JSON.parse(process.env.E2E_SCRIPTS);
const flags = JSON.parse(process.env.E2E_FLAGS);

/** How long the browser may take for anything, in milliseconds. */
const PATIENCE = 20000;

const FLAGS = [
  '--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking', '--disable-component-update',
  '--disable-sync', '--disable-dev-shm-usage',
];

async function publish(channel, data) {
  const response = await fetch(`${E2E_API}/api/publish`, {
    method: 'POST',
    headers: { 'X-API-Key': E2E_API_KEY },
    body: JSON.stringify({ channel, data }),
  });
  const reply = await response.json();
  assert.ok(reply.result, JSON.stringify(reply));
}

/** Runs in the page: a client whose publications are kept in `window.seen`. */
async function open({ transport, channel, patience }) {
  window.seen = [];
  window.states = [];
  const options = { emulationEndpoint: transport.emulation, minReconnectDelay: 10, maxReconnectDelay: 100, ...transport.options };
  window.client = new Centrifuge([{ transport: transport.transport, endpoint: transport.endpoint }], options);
  client.on('connected', (context) => window.states.push(`connected ${context.transport}`));
  client.on('connecting', (context) => window.states.push(`connecting ${context.code}`));
  window.sub = client.newSubscription(channel);
  sub.on('publication', (context) => window.seen.push(context.data));
  sub.on('subscribed', (context) => window.states.push(`subscribed ${context.wasRecovering} ${context.recovered}`));
  sub.subscribe();
  client.connect();
  await client.ready(patience);
  await sub.ready(patience);
}

async function seen(tab, data) {
  await tab.waitForFunction((wanted) => window.seen.some((data) => JSON.stringify(data) === wanted), JSON.stringify(data));
}

async function check(browser, transport) {
  const tab = await browser.newPage({ ignoreHTTPSErrors: true });
  tab.setDefaultTimeout(PATIENCE);
  for (const [address, path] of Object.entries(transport.files ?? {})) {
    await tab.route(address, (route) => route.fulfill({ path }));
  }
  await tab.goto(E2E_PAGE);
  const protocol = await tab.evaluate(() => performance.getEntriesByType('navigation')[0].nextHopProtocol);
  assert.equal(protocol, transport.protocol ?? (new URL(E2E_PAGE).protocol === 'https:' ? 'h2' : 'http/1.1'));
  for (const path of scripts) await tab.addScriptTag({ path });
  const channel = `chat:${crypto.randomUUID()}`;
  await tab.evaluate(open, { transport, channel, patience: PATIENCE });
  await publish(channel, { n: 1 });
  await seen(tab, { n: 1 });
  await tab.evaluate(() => sub.publish({ n: 2 }));
  await seen(tab, { n: 2 });
  const { numClients } = await tab.evaluate(() => sub.presenceStats());
  assert.equal(numClients, 1);

  // As a network that goes away: the client finds out by itself and comes back.
  await tab.evaluate(() => client._transport ? client._transport.close() : client._transportClosed());
  await publish(channel, { n: 3 });
  await seen(tab, { n: 3 });
  await publish(channel, { n: 4 });
  await seen(tab, { n: 4 });
  const { states, all } = await tab.evaluate(() => ({ states: window.states, all: window.seen.map((data) => data.n) }));
  assert.deepEqual(all, [1, 2, 3, 4]);
  assert.equal(states.filter((state) => state === `connected ${transport.via ?? transport.transport}`).length, 2, states.join(', '));
  assert.equal(states.at(-1), 'subscribed true true', states.join(', '));

  if (transport.protocol) {
    const used = await tab.evaluate(
      (name) => performance.getEntriesByName(name).map((entry) => entry.nextHopProtocol),
      transport.emulation,
    );
    assert.ok(used.length > 0 && used.every((protocol) => protocol === transport.protocol), `carried by ${used}`);
  }

  await tab.evaluate(() => client.disconnect());
  await tab.close();
}

const browser = await chromium.launch({ executablePath: E2E_CHROMIUM, args: [...FLAGS, ...flags], timeout: PATIENCE });
try {
  for (const transport of transports) {
    try {
      await check(browser, transport);
      console.log(`ok ${transport.name}`);
    } catch (error) {
      console.log(`FAIL ${transport.name} ${error.stack}`);
    }
  }
} finally {
  await browser.close();
}
