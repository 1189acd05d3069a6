import { existsSync, readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { img, temporaryDirectory } from './support/cli.js'

const cwd = temporaryDirectory()

/** Waits for the job to be under way: its temporary file is there. */
async function underWay(): Promise<void> {
  while (!readdirSync(cwd).some((name) => name.endsWith('.part')))
    await new Promise((resolve) => setTimeout(resolve, 5))
}

describe.skipIf(process.platform === 'win32')('a conversion that is stopped', () => {
  it.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
    ['SIGHUP', 129],
  ] as const)('by %s ends with %d and leaves the target as it was', async (signal, exit) => {
    writeFileSync(join(cwd, 'large.raw'), 'x')
    truncateSync(join(cwd, 'large.raw'), 8 * 1024 ** 3)
    writeFileSync(join(cwd, 'old.raw'), 'old')
    // At this rate it would not end within the test.
    const args = ['convert', '-f', 'raw', '-O', 'raw', '-S', '0', '-r', '1M', 'large.raw', 'old.raw']
    const { code, stdout, stderr } = await img(args, {
      cwd,
      onStart: (child) => void underWay().then(() => child.kill(signal)),
    })
    expect({ code, stdout, stderr }).toEqual({ code: exit, stdout: '', stderr: '' })
    expect(readFileSync(join(cwd, 'old.raw'), 'utf8')).toBe('old')
    expect(readdirSync(cwd).sort()).toEqual(['large.raw', 'old.raw'])
  })

  it('leaves no new target', async () => {
    const args = ['convert', '-f', 'raw', '-O', 'qcow2', '-S', '0', '-r', '1M', 'large.raw', 'new.qcow2']
    await img(args, { cwd, onStart: (child) => void underWay().then(() => child.kill('SIGINT')) })
    expect(existsSync(join(cwd, 'new.qcow2'))).toBe(false)
    expect(readdirSync(cwd).sort()).toEqual(['large.raw', 'old.raw'])
  })
})

it.skipIf(process.platform === 'win32')('SIGUSR1 asks how far it is, without -p', async () => {
  writeFileSync(join(cwd, 'large.raw'), 'x')
  truncateSync(join(cwd, 'large.raw'), 8 * 1024 ** 3)
  const args = ['convert', '-f', 'raw', '-O', 'qcow2', '-S', '0', '-r', '1M', 'large.raw', 'asked.qcow2']
  const { code, stderr } = await img(args, {
    cwd,
    onStart: (child) => {
      child.stderr?.once('data', () => child.kill('SIGINT'))
      void underWay().then(() => child.kill('SIGUSR1'))
    },
  })
  expect(code).toBe(130)
  expect(stderr).toMatch(/^ {4}\(\d+\.\d\d\/100%\)\n$/)
})

describe('--progress', () => {
  it('json: one object a line, the last of them complete', async () => {
    writeFileSync(join(cwd, 'some.raw'), Buffer.alloc(3_000_320, 'x'))
    const { code, stdout, stderr } = await img(
      ['convert', '-f', 'raw', '-O', 'qcow2', '--progress=json', 'some.raw', 'some.qcow2'],
      { cwd },
    )
    expect([code, stdout]).toEqual([0, ''])
    const lines = stderr
      .trim()
      .split('\n')
      .map(
        (line) =>
          JSON.parse(line) as { done: number; total: number; phase: string; unit: string; elapsed: number },
      )
    expect(lines.at(-1)).toMatchObject({
      done: 3_000_320,
      total: 3_000_320,
      percent: 100,
      unit: 'bytes',
      phase: 'copy',
    })
    for (const [i, line] of lines.entries()) expect(line.done).toBeGreaterThanOrEqual(lines[i - 1]?.done ?? 0)
  })

  it('plain: lines; -p and auto: nothing where stderr is no terminal', async () => {
    const run = (...options: string[]) =>
      img(['convert', '-f', 'raw', ...options, 'some.raw', 'copy.raw'], { cwd })
    expect((await run('--progress=plain')).stderr).toMatch(/^ {4}\(100\.00\/100%\) {2}copy.*\n$/m)
    expect((await run('-p')).stderr).toBe('')
    expect((await run('--progress=auto')).stderr).toBe('')
    expect((await run('-p', '--progress=none')).stderr).toBe('')
  })
})
