import { formatConformance } from '@img/conformance'
import type { Driver, Format } from '@img/core'
import { describe, it } from 'vitest'
import { luks } from '../src/format.js'

const subject = {
  // The shortest key: opening a disk hashes it 4000 times.
  options: [{ 'iter-time': 1, 'cipher-alg': 'aes-128', 'cipher-mode': 'cbc', 'ivgen-alg': 'essiv' }],
  openOptions: { 'key-secret': 'id' },
  secret: (): Uint8Array => new TextEncoder().encode('passphrase'),
  // Every byte of a disk is written: there are no thin ones.
  sizes: [0, 1000, 65536],
  // Each opening derives keys: few series find as much.
  depth: 0.03,
}

/** The format without what a power cut may leave undone: see the README. */
const fixedSize: Format = {
  ...luks,
  async open(storage, context) {
    const driver = await luks.open(storage, context)
    return Object.defineProperty(driver, 'resize', { value: undefined }) as Driver
  },
}

/** Nothing in a LUKS1 file tells its size: like a raw disk it ends where the file does. */
const cut = 'cut at every sector'
const powerCut = 'power cut'

describe('at any size', () => {
  formatConformance(
    {
      describe: (name, body) => (name === powerCut ? undefined : describe(name, body)),
      it: (name, body, timeout) =>
        name.includes(cut)
          ? it.skip(`${name} (a LUKS1 header does not tell the size of the disk)`)
          : it(name, body, timeout),
    },
    { ...subject, format: luks },
  )
})

describe('at one size', () => {
  formatConformance(
    {
      describe: (name, body) =>
        name === powerCut || name.startsWith('conformance') ? describe(name, body) : undefined,
      it,
    },
    { ...subject, format: fixedSize },
  )
})
