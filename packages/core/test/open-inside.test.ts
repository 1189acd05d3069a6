import { describe, expect, it } from 'vitest'
import {
  createRegistry,
  type Driver,
  defineFormat,
  type Format,
  memoryStorage,
  type OpenContext,
  openImage,
  readImageStream,
  type Storage,
} from '../src/index.js'

/** Bytes of another image behind eight of its own. */
function boxed(name: string, inner: (part: Storage, context: OpenContext) => Promise<Driver>): Format {
  return defineFormat({
    apiVersion: 1,
    name,
    title: name,
    extensions: [],
    magic: [],
    probe: { head: 8, matches: ({ head }) => new TextDecoder().decode(head) === `${name}-----`.slice(0, 8) },
    open: (storage, context) => inner(storage.slice(8), context),
  })
}

const box = boxed('box', async (part, context) => {
  if (context.openInside === undefined) throw new Error('no image is opened in this one')
  const image = await context.openInside(part)
  return { size: image.size, map: image.driver.map, info: () => ({}), close: () => image.close() }
})
const plain = boxed('plain', async (storage) => ({
  size: storage.size,
  map: {
    clusterSize: 1,
    lookup: (offset, length) => ({ kind: 'data', length, storage, hostOffset: offset }),
  },
  info: () => ({}),
}))
const link = boxed('link', async (_, context) => {
  await context.openReference({ kind: 'extent', name: 'other' })
  throw new Error('it was opened')
})

const registry = createRegistry([box, plain, link])

function open(text: string): ReturnType<typeof openImage> {
  const storage = memoryStorage(new TextEncoder().encode(text), { readOnly: true })
  const references = { open: () => Promise.reject(new Error('the gate was asked')) }
  return openImage(storage, { registry, references })
}

describe('an image inside another', () => {
  it('is found by its content, and read in place', async () => {
    await using image = await open('box-----plain---hello')
    const bytes = new Uint8Array(5)
    expect(image.size).toBe(5)
    await image.read(0, bytes)
    expect(new TextDecoder().decode(bytes)).toBe('hello')
  })

  it('is never guessed, refers to nothing, and holds none itself', async () => {
    await expect(open('box-----what is this')).rejects.toMatchObject({ code: 'IMG_UNKNOWN_FORMAT' })
    await expect(open('box-----link----')).rejects.toMatchObject({ code: 'IMG_REFERENCE_DENIED' })
    await expect(open('box-----box-----plain---hello')).rejects.toThrow('no image is opened in this one')
  })
})

describe('reading a pipe', () => {
  async function* none(): AsyncGenerator<Uint8Array> {
    yield* []
  }

  it('is refused by formats that cannot, and gives others what they asked for', async () => {
    await expect(readImageStream(plain, none(), { label: 'pipe' })).rejects.toMatchObject({
      code: 'IMG_UNSUPPORTED',
    })
    const outer: Format = {
      ...plain,
      openOptions: { part: { kind: 'int', help: '', default: 3 } },
      async readStream(input, { label, options, streamInside }) {
        expect([label, options]).toEqual(['pipe', { part: 3 }])
        await streamInside?.('plain', input)
        throw new Error('plain was read')
      },
    }
    const reading = readImageStream(outer, none(), { label: 'pipe', registry })
    await expect(reading).rejects.toMatchObject({ code: 'IMG_UNSUPPORTED', format: 'plain' })
    const wrong = readImageStream(outer, none(), { label: 'pipe', options: { other: 1 } })
    await expect(wrong).rejects.toMatchObject({ code: 'IMG_BAD_OPTION' })
  })
})
