import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { chromium } from 'playwright-core'
import { chromiumArguments, chromiumPath } from '../../../core/test/browser/chromium.js'

/** What the kit found in the page. */
export interface Found {
  readonly tests: number
  readonly failed: string[]
  readonly broken: string[]
}

/** Runs a script that sets `globalThis.conformance` in Chromium, and calls that. */
export async function runInChromium(script: string): Promise<Found> {
  if (chromiumPath === undefined) throw new Error('no Chromium')
  const server = createServer((request, response) => {
    const wanted = request.url === '/page.js'
    response.setHeader('content-type', wanted ? 'text/javascript' : 'text/html')
    response.end(
      wanted ? script : '<!doctype html><meta charset="utf-8"><script type="module" src="/page.js"></script>',
    )
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const browser = await chromium.launch({
    executablePath: chromiumPath,
    headless: true,
    args: [...chromiumArguments],
  })
  try {
    const page = await browser.newPage()
    await page.goto(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`)
    await page.waitForFunction(() => 'conformance' in globalThis)
    return await page.evaluate(() =>
      (globalThis as unknown as { conformance(): Promise<Found> }).conformance(),
    )
  } finally {
    await browser.close()
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  }
}
