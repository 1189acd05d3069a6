import { createHash } from 'node:crypto'
import { convert, createWriter, type Format, memoryStorage } from '@img/core'
import { describe, expect, it } from 'vitest'
import { deviceOf, mixedDisk } from '../src/content.js'
import { formatConformance, type Sample, type Subject } from '../src/index.js'
import { override, runKit } from './broken/support.js'
import { toy } from './toy/format.js'

/** The toy as a format that can only be read. */
const readOnly: Format = override(toy, {
  create: undefined,
  createOptions: undefined,
  stream: undefined,
  measure: undefined,
})

const disk = mixedDisk(1024)

async function makeFile(options: Record<string, unknown>): Promise<Uint8Array> {
  const target = memoryStorage()
  const data = memoryStorage()
  const references = {
    open: () => Promise.resolve({ storage: memoryStorage(disk.toBytes()) }),
    create: () => Promise.resolve(data),
  }
  const writer = await createWriter(toy, target, { size: disk.size, options, references })
  if (options.backing_file === undefined) await convert(deviceOf(disk), writer)
  else await writer.finish()
  await writer.close?.()
  return options.data_file === undefined ? target.bytes() : join(target.bytes(), data.bytes())
}

/** Two files, the length of the first in front. */
function join(one: Uint8Array, other: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(4 + one.length + other.length)
  new DataView(bytes.buffer).setUint32(0, one.length)
  bytes.set(one, 4)
  bytes.set(other, 4 + one.length)
  return bytes
}

const whole: Sample = {
  name: 'by its content',
  file: () => makeFile({}),
  size: disk.size,
  content: () => disk.toBytes(),
}

const samples: readonly Sample[] = [
  whole,
  {
    name: 'by its hash, from a storage',
    file: async () => memoryStorage(await makeFile({ cluster_size: 512 })),
    size: disk.size,
    sha256: createHash('sha256').update(disk.toBytes()).digest('hex'),
  },
  {
    name: 'with a data file',
    file: async () => {
      const both = await makeFile({ data_file: 'guest.data' })
      return both.subarray(4, 4 + new DataView(both.buffer).getUint32(0))
    },
    references: {
      'guest.data': async () => {
        const both = await makeFile({ data_file: 'guest.data' })
        return both.subarray(4 + new DataView(both.buffer).getUint32(0))
      },
    },
    size: disk.size,
    content: () => disk.toBytes(),
  },
  {
    name: 'over a raw backing file',
    file: () => makeFile({ backing_file: 'base', backing_fmt: 'raw' }),
    references: { base: () => disk.toBytes() },
    size: disk.size,
    content: () => disk.toBytes(),
  },
]

formatConformance({ describe, it }, { format: readOnly, samples })

describe('samples', () => {
  async function faults(subject: Partial<Subject>): Promise<string[]> {
    const results = await runKit({ format: readOnly, ...subject }, 'reads')
    return results.flatMap(({ error }) => (error ? [error.message] : []))
  }

  it('are compared with what they hold', async () => {
    const other = disk.toBytes()
    other[700] = 0
    expect(await faults({ samples: [{ ...whole, content: () => other }] })).toContainEqual(
      expect.stringMatching(/guest offset 700 reads as 0x[0-9a-f]+, expected 0x00/),
    )
    const hashed = { ...whole, content: () => disk.toBytes(), sha256: '00'.repeat(32) }
    const { content: _, ...unknown } = hashed
    expect(await faults({ samples: [unknown] })).toContainEqual(
      expect.stringMatching(/its content has the SHA-256 [0-9a-f]{64}, expected 0{64}/),
    )
    expect(await faults({ samples: [{ ...unknown, size: 512 }] })).toContainEqual(
      expect.stringMatching(/the disk is 10752 bytes long, expected 512/),
    )
  })

  it('are required of a format that makes no images', () => {
    const runner = { describe: () => undefined, it: () => undefined }
    expect(() => formatConformance(runner, { format: readOnly })).toThrow(
      /format toy cannot create images: give samples/,
    )
  })
})

it('tries more the deeper it goes, and the same for the same seed', async () => {
  let probes = 0
  const counting = override(toy, {
    probe: {
      head: 8,
      matches(input) {
        probes++
        return toy.probe?.matches(input) ?? false
      },
    },
  })
  const count = async (depth: number): Promise<number> => {
    probes = 0
    await runKit({ format: counting, depth }, 'probe')
    return probes
  }
  const once = await count(1)
  expect(await count(1)).toBe(once)
  expect(await count(3)).toBeGreaterThan(once * 2)
  await expect(runKit({ format: toy, depth: 0 }, 'probe')).resolves.toContainEqual(
    expect.objectContaining({
      error: expect.objectContaining({ message: expect.stringContaining('depth 0') }),
    }),
  )
})
