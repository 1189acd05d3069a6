import { accessSync, constants } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { delimiter, join } from 'node:path'
import { chromium } from 'playwright-core'

const names = ['chromium', 'chromium-browser', 'google-chrome-stable', 'google-chrome', 'chrome']

/** The browser of `IMG_CHROMIUM`, else the first on PATH; undefined where there is none. */
export const chromiumPath: string | undefined = process.env.IMG_CHROMIUM ?? find()

/** For the name of a test that is skipped without a browser. */
export const needsChromium: string =
  chromiumPath === undefined ? ' (skipped: no Chromium on PATH; IMG_CHROMIUM may name one)' : ''

function find(): string | undefined {
  for (const folder of (process.env.PATH ?? '').split(delimiter)) {
    for (const name of names) {
      const path = join(folder, process.platform === 'win32' ? `${name}.exe` : name)
      try {
        accessSync(path, constants.X_OK)
        return path
      } catch {
        // Not there: look further.
      }
    }
  }
  return undefined
}

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
    args: ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking'],
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
