// Opens the page of the server API in a headless Chromium and publishes with it, as a person would.
// The environment says where: E2E_PAGE, E2E_API_KEY, E2E_CHROMIUM (path of the browser).

import assert from 'node:assert/strict';
import { chromium } from 'playwright-core';

const { E2E_PAGE, E2E_API_KEY, E2E_CHROMIUM } = process.env;

/** How long the browser may take for anything, in milliseconds. */
const PATIENCE = 20000;

const FLAGS = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage',
];

async function check(page) {
  await page.goto(E2E_PAGE);
  await page.locator('.opblock').first().waitFor();
  assert.equal(await page.locator('.opblock').count(), 14);

  await page.locator('button.authorize').first().click();
  await page.locator('.auth-container input').fill(E2E_API_KEY);
  await page.locator('.auth-container button[type=submit]').click();
  await page.locator('button.btn-done').click();

  const publish = page.locator('#operations-default-Publish');
  await publish.locator('button.opblock-summary-control').click();
  await publish.locator('button.try-out__btn').click();
  await publish.locator('textarea').fill(JSON.stringify({ channel: 'chat:swagger', data: { text: 'hello' } }));
  await publish.locator('button.execute').click();
  const answer = publish.locator('.live-responses-table .response-col_description .highlight-code').first();
  await answer.waitFor();
  assert.match(await answer.innerText(), /"offset": 1\b/);
}

const browser = await chromium.launch({ executablePath: E2E_CHROMIUM, args: FLAGS, timeout: PATIENCE });
try {
  const page = await browser.newPage();
  page.setDefaultTimeout(PATIENCE);
  const errors = [];
  page.on('pageerror', (error) => errors.push(String(error)));
  await check(page);
  assert.deepEqual(errors, []);
  console.log('ok swagger');
} finally {
  await browser.close();
}
