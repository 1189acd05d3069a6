import {
  blobStorage,
  convert,
  createWriter,
  type DiskImage,
  httpStorage,
  memoryStorage,
  openImage,
} from '@img/core'
import { qcow2 } from '../../src/index.js'

/** What the page found in an image. */
export interface Seen {
  readonly format: string
  readonly label: string
  readonly size: number
  /** SHA-256 of what the guest sees, in hexadecimal. */
  readonly sha256: string
  /** The sector asked for. */
  readonly sector: number[]
  /** Kinds of extents that there are. */
  readonly kinds: string[]
}

async function sha256(image: DiskImage): Promise<string> {
  const bytes = new Uint8Array(image.size)
  await image.read(0, bytes)
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes))
  return [...digest].map((byte) => byte.toString(16).padStart(2, '0')).join('')
}

async function look(image: DiskImage, sector: number): Promise<Seen> {
  const into = new Uint8Array(512)
  await image.read(sector * 512, into)
  const kinds = new Set<string>()
  for await (const { kind } of image.extents()) kinds.add(kind)
  const seen = {
    format: image.format.name,
    label: image.storage.label,
    size: image.size,
    sha256: await sha256(image),
    sector: [...into],
    kinds: [...kinds].sort(),
  }
  await image.close()
  return seen
}

function base64(bytes: Uint8Array): string {
  let text = ''
  for (let at = 0; at < bytes.length; at += 4096)
    text += String.fromCharCode(...bytes.subarray(at, at + 4096))
  return btoa(text)
}

/** What the test calls in the page. */
export const qcow2Page = {
  /** Opens the file that was picked, its format found by probing. */
  async fromFile(sector: number): Promise<Seen> {
    const file = document.querySelector('input')?.files?.[0]
    if (!file) throw new Error('nothing was picked')
    return look(await openImage(blobStorage(file)), sector)
  },

  fromUrl: async (url: string, sector: number): Promise<Seen> =>
    look(await openImage(await httpStorage(url)), sector),

  /** Converts an image to a new qcow2 in memory, and returns that file as Base64. */
  async convert(url: string, options: Record<string, string>, compress: boolean): Promise<string> {
    const source = await openImage(await httpStorage(url))
    const target = memoryStorage()
    const writer = await createWriter(qcow2, target, { size: source.size, options, compress })
    await convert(source, writer)
    await source.close()
    return base64(target.bytes())
  },
}

Object.assign(globalThis, { qcow2Page, ready: true })
