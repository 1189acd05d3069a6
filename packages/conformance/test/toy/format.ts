import {
  type Driver,
  defineFormat,
  type Format,
  ImageError,
  isWritable,
  type OpenContext,
  type ResizeOptions,
  type Storage,
} from '@img/core'
import { isToy, maxSize, readToy } from './file.js'
import { ToyImage } from './image.js'
import { resized, ToyMap, WritableToyMap } from './map.js'
import { toyCreateOptions } from './options.js'
import { backingOf, toySnapshots } from './snapshots.js'
import { measureToy, readToyStream, streamToy } from './stream.js'
import { createToy, ToyWriter } from './writer.js'

/** What a toy format is made of, to be replaced where it is to be broken. */
export interface ToyParts {
  readonly Image: typeof ToyImage
  readonly Map: typeof WritableToyMap
  readonly Writer: typeof ToyWriter
}

const soundParts: ToyParts = { Image: ToyImage, Map: WritableToyMap, Writer: ToyWriter }

async function openToy(storage: Storage, context: OpenContext, parts: ToyParts): Promise<Driver> {
  const { writable, inspect } = context
  const { root, rootOffset, rootLength } = await readToy(storage, context)
  if (writable && !isWritable(storage)) throw new ImageError('IMG_READ_ONLY', `${storage.label} is read-only`)
  const { data: dataName } = root.names
  const reference = dataName === '' ? undefined : ({ kind: 'data', name: dataName } as const)
  const data = reference && !inspect ? await context.openReference(reference) : undefined
  const image = new parts.Image(root, storage, data ?? storage, rootOffset, rootLength)
  const backing = backingOf(image)
  return {
    get size() {
      return root.size
    },
    map: writable ? new parts.Map(image) : new ToyMap(image),
    info: () => ({ clusterSize: root.clusterSize, specific: { codec: root.codec } }),
    snapshots: toySnapshots(image, writable),
    ...(backing && { backing }),
    ...(reference &&
      !data && { unreadable: new ImageError('IMG_REFERENCE_DENIED', 'the data file is not open') }),
    ...(writable && { resize: (size: number, options: ResizeOptions) => resize(image, size, options) }),
    ...(data && { close: () => data.close() }),
  }
}

async function resize(
  image: ToyImage,
  size: number,
  { preallocation = 'off' }: ResizeOptions,
): Promise<void> {
  if (preallocation !== 'off') throw new ImageError('IMG_UNSUPPORTED', 'toy images are not preallocated')
  if (size > maxSize) throw new ImageError('IMG_UNSUPPORTED_SIZE', `toy disks have at most ${maxSize} bytes`)
  image.root.entries = resized(image.root.entries, size, image.root.clusterSize)
  image.root.size = size
  image.touch()
}

/** A toy format with some parts replaced. */
export function makeToy(replaced: Partial<ToyParts> = {}): Format {
  const parts = { ...soundParts, ...replaced }
  return defineFormat({
    apiVersion: 1,
    name: 'toy',
    title: 'Toy format of the tests',
    extensions: ['.toy'],
    aliases: ['toy1'],
    magic: [{ offset: 0, hex: '544f59494d470001' }],
    probe: { head: 8, matches: ({ head }) => isToy(head) },
    open: (storage, context) => openToy(storage, context, parts),
    createOptions: toyCreateOptions,
    create: (target, spec, context) => createToy(target, spec, context, parts.Writer),
    stream: streamToy,
    readStream: readToyStream,
    measure: measureToy,
  })
}

/** A small format that can do everything the contract knows, and keeps its promises over a power cut. */
export const toy: Format = makeToy()
