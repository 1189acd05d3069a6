import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { parityPage, parseHelp } from './parity/table.js'
import { hasQemu7 } from './support/qemu.js'

const page = new URL('../../../docs/qemu-img-parity.md', import.meta.url)

describe.skipIf(!hasQemu7)('the table of verbs and flags (skipped without qemu-img 7.2)', () => {
  const qemu = parseHelp(hasQemu7 ? execFileSync('qemu-img', ['--help'], { encoding: 'utf8' }) : '')

  it('finds all verbs of qemu-img', () => {
    expect(qemu.map(({ name }) => name)).toHaveLength(15)
    expect(qemu.find(({ name }) => name === 'compare')?.flags).toEqual([
      '--object',
      '--image-opts',
      '-f',
      '-F',
      '-T',
      '-p',
      '-q',
      '-s',
      '-U',
    ])
  })

  it('is as the lines are that the tests compare; every flag is known and compared', async () => {
    const made = await parityPage(qemu)
    if (process.env.IMG_WRITE_PARITY === '1') writeFileSync(page, made)
    expect(made).not.toContain('| unknown |')
    const uncompared = made.split('\n').filter((row) => /^\| `\w+` \| `.*` \| {2}\|/.test(row))
    expect(uncompared).toEqual([])
    expect(readFileSync(page, 'utf8'), 'stale: see its first lines').toBe(made)
  })
})
