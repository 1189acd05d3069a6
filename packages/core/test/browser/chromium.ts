import { accessSync, constants } from 'node:fs'
import { delimiter, join } from 'node:path'
import { type Browser, chromium, type Page } from 'playwright-core'

const names = ['chromium', 'chromium-browser', 'google-chrome-stable', 'google-chrome', 'chrome']

/** Keeps it from the network, and lets it run as root. */
export const chromiumArguments: readonly string[] = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
]

/** The browser of `IMG_CHROMIUM`, else the first on PATH; undefined where there is none. */
export const chromiumPath: string | undefined = process.env.IMG_CHROMIUM ?? find()

/** For the name of a suite that is skipped without a browser. */
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

/** A page in a browser of its own, with a new profile. */
export interface TestPage {
  readonly page: Page
  /** What the page's own errors and console errors said. */
  readonly complaints: string[]
  close(): Promise<void>
}

/** Starts Chromium and opens a page that sets `globalThis.ready` once its script has run. */
export async function openTestPage(url: string): Promise<TestPage> {
  if (chromiumPath === undefined) throw new Error('no Chromium')
  const browser: Browser = await chromium.launch({
    executablePath: chromiumPath,
    headless: true,
    args: [...chromiumArguments],
  })
  const complaints: string[] = []
  const page = await browser.newPage()
  page.on('pageerror', (error) => complaints.push(String(error)))
  try {
    await page.goto(url)
    await page.waitForFunction(() => 'ready' in globalThis)
  } catch (error) {
    await browser.close()
    throw new Error(`the page did not start: ${complaints.join('; ')}`, { cause: error })
  }
  return { page, complaints, close: () => browser.close() }
}
