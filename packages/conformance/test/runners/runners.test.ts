import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { chromiumPath, needsChromium } from '../../../core/test/browser/chromium.js'
import { formatConformance, type Runner } from '../../src/index.js'
import { reads } from '../broken/reads.js'
import { toy } from '../toy/format.js'
import { bundle, bundleText } from './bundle.js'
import { runInChromium } from './chromium.js'

let folder: string

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'img-conformance-'))
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

/** An environment that does not make a runner think that it runs inside another. */
function cleanEnv(): NodeJS.ProcessEnv {
  const { NODE_OPTIONS: _, NODE_TEST_CONTEXT: __, ...env } = process.env
  return env
}

describe('under node:test', () => {
  async function run(entry: string): Promise<{ status: number | null; output: string }> {
    const file = join(folder, entry.replace('.ts', '.test.mjs'))
    await bundle(new URL(entry, import.meta.url), file, 'node')
    const { status, stdout } = spawnSync(process.execPath, ['--test', '--test-reporter=tap', file], {
      encoding: 'utf8',
      env: cleanEnv(),
      maxBuffer: 64 * 1024 * 1024,
    })
    return { status, output: stdout }
  }

  it('passes for a sound format, and says what does not apply to it', async () => {
    const { status, output } = await run('node-test-entry.ts')
    expect(output).toMatch(/^# fail 0$/m)
    expect(Number(/^# pass (\d+)$/m.exec(output)?.[1])).toBeGreaterThan(50)
    expect(status).toBe(0)
  })

  it('runs the example of the README', async () => {
    const readme = readFileSync(new URL('../../README.md', import.meta.url), 'utf8')
    const [, example = ''] = /```ts\n([\s\S]*?)```/.exec(readme) ?? []
    const file = join(folder, 'readme.test.mjs')
    await bundleText(example, file, {
      '@img/conformance': new URL('../../src/index.ts', import.meta.url),
      '../src/format.js': new URL('../toy/format.ts', import.meta.url),
      vitest: 'node:test',
    })
    const { status, stdout } = spawnSync(
      process.execPath,
      ['--test', '--test-name-pattern=recognises', file],
      {
        encoding: 'utf8',
        env: cleanEnv(),
      },
    )
    expect(stdout).toContain('recognises an image made with cluster_size=512')
    expect(status).toBe(0)
  })

  it('fails for a broken one, and names the fault', async () => {
    const { status, output } = await run('node-test-broken-entry.ts')
    expect(status).toBe(1)
    expect(output).toContain(
      'reads: an image made with default options: the disk is 11264 bytes long, expected 10752',
    )
  })
})

describe('under a runner that works as mocha does', () => {
  /** What mocha does with a test: `this` has timeout and skip, and a function with a parameter waits for its callback. */
  async function runAsMocha(
    format: typeof toy,
  ): Promise<{ failed: string[]; skipped: string[]; passed: number }> {
    const tests: { title: string; body: (this: unknown) => Promise<void> }[] = []
    const runner: Runner = {
      describe: (_, body) => body(),
      it: (title, body) => tests.push({ title, body }),
    }
    formatConformance(runner, { format })
    const failed: string[] = []
    const skipped: string[] = []
    let passed = 0
    for (const { title, body } of tests) {
      if (body.length > 0) throw new Error(`${title}: mocha would wait for a callback`)
      const pending = new Error('sync skip')
      const context = {
        timeout: () => context,
        skip(): never {
          throw pending
        },
      }
      try {
        await body.call(context)
        passed++
      } catch (error) {
        if (error === pending) skipped.push(title)
        else failed.push((error as Error).message)
      }
    }
    return { failed, skipped, passed }
  }

  it('passes for a sound format', async () => {
    const { failed, passed } = await runAsMocha(toy)
    expect(failed).toEqual([])
    expect(passed).toBeGreaterThan(50)
  })

  it('fails for a broken one, and skips what does not apply', async () => {
    const { failed, skipped } = await runAsMocha({ ...toy, open: reads[0]?.format.open ?? toy.open })
    expect(failed.some((message) => message.includes('the disk is 11264 bytes long'))).toBe(true)
    const { open } = toy
    const frozen = await runAsMocha({
      ...toy,
      open: (storage, context) => open(storage, { ...context, writable: false }),
    })
    expect(frozen.skipped).toContain('behaves like a plain array, made with default options')
    expect(skipped).not.toContain('behaves like a plain array, made with default options')
    expect(skipped.every((title) => /bitmap|check|wrong|repair/.test(title))).toBe(true)
  })
})

describe('in a browser', () => {
  it('needs nothing of Node', async () => {
    const file = join(folder, 'page.js')
    expect(await bundle(new URL('browser-entry.ts', import.meta.url), file, 'browser')).toEqual([])
    expect(readFileSync(file, 'utf8')).not.toMatch(/\bfrom\s*"node:/)
  })

  it.skipIf(chromiumPath === undefined)(`passes for a sound format in Chromium${needsChromium}`, async () => {
    const file = join(folder, 'chromium.js')
    await bundle(new URL('browser-entry.ts', import.meta.url), file, 'browser')
    const { tests, failed, broken } = await runInChromium(readFileSync(file, 'utf8'))
    expect(failed).toEqual([])
    expect(tests).toBeGreaterThan(50)
    expect(broken.join('\n')).toContain('the disk is 11264 bytes long, expected 10752')
  })
})
