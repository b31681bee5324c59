// Opens the demo page in two tabs of a headless Chromium: publications over the HTTP API appear in both, the tabs chat,
// and what was missed during a cut comes back.
// The environment says where: E2E_PAGE, E2E_API, E2E_API_KEY, E2E_CHANNEL, E2E_CHROMIUM (path of the browser).

import assert from 'node:assert/strict';
import crypto from 'node:crypto';
import { chromium } from 'playwright-core';

const { E2E_PAGE, E2E_API, E2E_API_KEY, E2E_CHANNEL, E2E_CHROMIUM } = process.env;

/** How long the browser may take for anything, in milliseconds. */
const PATIENCE = 20000;

const FLAGS = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage',
];

/** Publishes a text over the server API and returns it, made unique. */
async function publish(what) {
  const text = unique(what);
  const response = await fetch(`${E2E_API}/api/publish`, {
    method: 'POST',
    headers: { 'X-API-Key': E2E_API_KEY },
    body: JSON.stringify({ channel: E2E_CHANNEL, data: { text } }),
  });
  const reply = await response.json();
  assert.ok(reply.result, JSON.stringify(reply));
  return text;
}

function unique(what) {
  return `${what} ${crypto.randomUUID()}`;
}

async function open(browser, errors) {
  const tab = await browser.newPage();
  tab.setDefaultTimeout(PATIENCE);
  tab.on('pageerror', (error) => errors.push(String(error)));
  await tab.goto(E2E_PAGE);
  await isLive(tab);
  return tab;
}

async function isLive(tab) {
  await tab.locator('#status.live').waitFor();
}

/** Waits until the text stands in the list of messages, once. */
async function appears(tab, text) {
  const message = tab.locator('#messages li', { hasText: text });
  await message.waitFor();
  assert.equal(await message.count(), 1);
  return message;
}

async function check(browser) {
  const errors = [];
  const earlier = await publish('from history');
  const one = await open(browser, errors);
  const two = await open(browser, errors);
  const live = await publish('<b>live</b>');
  for (const tab of [one, two]) {
    await appears(tab, earlier);
    const message = await appears(tab, live);
    assert.equal(await message.locator('b').count(), 0, 'markup in a message came to life');
  }

  const said = unique('hello from the first tab');
  await one.locator('#text').fill(said);
  await one.locator('#text').press('Enter');
  await appears(two, said);
  await appears(one, said);
  await two.locator('#count', { hasText: /^2$/ }).waitFor();

  await one.locator('#cut').click();
  await one.locator('#status:not(.live)').waitFor();
  const missed = [await publish('missed first'), await publish('missed second')];
  await isLive(one);
  for (const text of missed) await appears(one, text);
  const shown = (await one.locator('#messages li').allInnerTexts()).join('\n');
  assert.ok(shown.indexOf(missed[0]) < shown.indexOf(missed[1]), shown);
  assert.deepEqual(errors, []);
}

const browser = await chromium.launch({ executablePath: E2E_CHROMIUM, args: FLAGS, timeout: PATIENCE });
try {
  await check(browser);
  console.log('ok page');
} finally {
  await browser.close();
}
