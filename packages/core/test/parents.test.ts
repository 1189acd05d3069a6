import { describe, expect, it } from 'vitest'
import {
  createImage,
  createRegistry,
  type DiskImage,
  defineFormat,
  ImageError,
  memoryStorage,
  openImage,
  type Reference,
  referencesFrom,
  type Storage,
} from '../src/index.js'

/** A format whose file is the number of its disk, its parent's number, and nothing else. */
const numbered = defineFormat({
  apiVersion: 1,
  name: 'numbered',
  title: 'for tests',
  extensions: [],
  magic: [],
  async open(storage) {
    const [own = 0, parent = 0] = await bytesOf(storage)
    const backing: Reference = { kind: 'parent', name: 'parent', format: 'numbered' }
    return {
      size: 512,
      map: { clusterSize: 512, lookup: (_offset, length) => ({ kind: 'unallocated', length }) },
      info: () => ({ extra: { number: own } }),
      ...(parent !== 0 && {
        backing,
        async checkBacking(image: DiskImage) {
          const { extra } = await image.info()
          if (extra?.number !== parent)
            throw new ImageError('IMG_CORRUPT', `parent ${parent}, not ${extra?.number}`)
        },
      }),
    }
  },
  createOptions: { backing_file: { kind: 'string', help: 'The parent' } },
  async create(target, { options }, context) {
    const name = options.backing_file as string
    const parent = await context.openReference({ kind: 'parent', name, format: 'numbered' })
    const [number = 0] = await bytesOf(parent)
    await parent.close()
    return {
      clusterSize: 512,
      place: (offset, length) => ({ storage: target, hostOffset: offset, length }),
      finish: () => target.write(0, Uint8Array.of(9, number)),
    }
  },
})

async function bytesOf(storage: Storage): Promise<Uint8Array> {
  const bytes = new Uint8Array(storage.size)
  await storage.read(0, bytes)
  return bytes
}

const registry = createRegistry([numbered])
const references = (...numbers: readonly number[]) =>
  referencesFrom({ parent: () => memoryStorage(Uint8Array.from(numbers), { label: 'parent' }) })

describe('a format that records which image its parent is', () => {
  it('is shown the opened parent', async () => {
    const image = await openImage(memoryStorage(Uint8Array.of(1, 7)), {
      registry,
      format: 'numbered',
      references: references(7),
    })
    expect(image.backing?.storage.label).toBe('parent')
    await image.close()
  })

  it('can refuse it, and then all is closed', async () => {
    const storage = memoryStorage(Uint8Array.of(1, 7))
    const opened = memoryStorage(Uint8Array.of(8))
    const opening = openImage(storage, {
      registry,
      format: 'numbered',
      references: referencesFrom({ parent: opened }),
    })
    await expect(opening).rejects.toMatchObject({ code: 'IMG_CORRUPT', message: 'parent 7, not 8' })
    for (const closed of [storage, opened]) {
      await expect(closed.read(0, new Uint8Array(1))).rejects.toMatchObject({ code: 'IMG_CLOSED' })
    }
  })

  it('reads it when it makes an image, through the gate only', async () => {
    const target = memoryStorage()
    const options = { backing_file: 'parent' }
    const made = { size: 512, options }
    await expect(createImage(numbered, target, made)).rejects.toMatchObject({ code: 'IMG_REFERENCE_DENIED' })
    await createImage(numbered, target, { ...made, references: references(7) })
    expect([...target.bytes().subarray(0, 2)]).toEqual([9, 7])
  })
})
