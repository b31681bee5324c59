// Opens many streams of events in one page of a headless Chromium, and prints `ok streams` once each has got its publication and
// all share one connection. The environment says where: E2E_PAGE (a page of the server, over TLS), E2E_API, E2E_API_KEY,
// E2E_CHROMIUM (path of the browser), E2E_STREAMS (how many).

import assert from 'node:assert/strict';
import fs from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { chromium } from 'playwright-core';

const { E2E_PAGE, E2E_API, E2E_API_KEY, E2E_CHROMIUM } = process.env;
const streams = Number(process.env.E2E_STREAMS);

/** How long the browser may take for anything, in milliseconds. */
const PATIENCE = 20000;

const FLAGS = ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking', '--disable-dev-shm-usage'];

/** Connections to the server that are open; a browser drops those that it opened to be quick and did not need. */
async function connections() {
  const port = Number(new URL(E2E_PAGE).port).toString(16).toUpperCase().padStart(4, '0');
  const lines = (await fs.readFile('/proc/net/tcp', 'utf8')).split('\n').map((line) => line.trim().split(/\s+/));
  return lines.filter(([, , remote, state]) => remote?.endsWith(`:${port}`) && state === '01').length;
}

/** Runs in the page: resolves once every stream is subscribed. */
async function open(count) {
  window.seen = new Set();
  const begun = [];
  for (let number = 0; number < count; number++) {
    const commands = [{ id: 1, connect: {} }, { id: 2, subscribe: { channel: `quiet:${number}` } }];
    const query = encodeURIComponent(commands.map((command) => JSON.stringify(command)).join('\n'));
    const source = new EventSource(`/connection/sse?cf_connect=${query}`);
    begun.push(new Promise((resolve) => {
      source.onmessage = ({ data }) => {
        const message = JSON.parse(data);
        if (message.id === 2) resolve();
        if (message.push) window.seen.add(message.push.pub.data);
      };
    }));
  }
  await Promise.all(begun);
}

async function publish(number) {
  const body = JSON.stringify({ channel: `quiet:${number}`, data: number });
  const response = await fetch(`${E2E_API}/api/publish`, { method: 'POST', headers: { 'X-API-Key': E2E_API_KEY }, body });
  assert.ok((await response.json()).result);
}

const browser = await chromium.launch({ executablePath: E2E_CHROMIUM, args: FLAGS, timeout: PATIENCE });
try {
  const tab = await browser.newPage({ ignoreHTTPSErrors: true });
  tab.setDefaultTimeout(PATIENCE);
  await tab.goto(E2E_PAGE);
  await tab.evaluate(open, streams);
  for (let number = 0; number < streams; number++) await publish(number);
  await tab.waitForFunction((count) => window.seen.size === count, streams);
  const started = Date.now();
  while (await connections() !== 1) {
    assert.ok(Date.now() - started < PATIENCE, `${await connections()} connections`);
    await sleep(50);
  }
  console.log('ok streams');
} finally {
  await browser.close();
}
