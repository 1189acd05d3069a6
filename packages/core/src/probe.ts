import { ImageError } from './errors.js'
import type { Format, Magic } from './format.js'
import { officialFormats } from './official.js'
import { defaultRegistry, type FormatRegistry, missing } from './registry.js'
import type { IoOptions, Storage } from './storage.js'

/** Bytes from the start of a file that formats may look at, at most. */
export const maxHead: number = 1024 * 1024
/** Bytes before the end of a file that formats may look at, at most. */
export const maxTail: number = 64 * 1024
/** Read from either end before any plugin is asked, at least: covers the magic numbers of this project's formats. */
const firstLook = 4096

/** Options of {@link probeFormat}. */
export interface ProbeOptions extends IoOptions {
  /** Default: the default registry. */
  readonly registry?: FormatRegistry | undefined
}

/**
 * Finds the format of a storage by its content. Reads a few KiB from either end, opens nothing else.
 * Returns undefined where no format recognises it; raw is never guessed here.
 * @throws {ImageError} IMG_AMBIGUOUS_FORMAT where two formats recognise it, IMG_PLUGIN_MISSING where it is of a known format
 * that is not installed, IMG_PLUGIN_INCOMPATIBLE where a plugin that may recognise it cannot be loaded.
 */
export async function probeFormat(storage: Storage, options: ProbeOptions = {}): Promise<Format | undefined> {
  const registry = options.registry ?? defaultRegistry
  const magics = registry.unloaded.flatMap(({ magic }) => magic ?? [])
  const ends = magics.filter(({ offset }) => offset >= 0).map(({ offset, hex }) => offset + hex.length / 2)
  const starts = magics.filter(({ offset }) => offset < 0).map(({ offset }) => -offset)
  let head = await readHead(storage, Math.min(maxHead, Math.max(firstLook, ...ends)), options)
  let tail = await readTail(storage, Math.min(maxTail, Math.max(firstLook, ...starts)), options)
  const has = (magic: Magic): boolean => matchesMagic(magic, head, tail)
  const formats = await registry.loadMatching(has)
  const probing = formats.filter(({ probe }) => probe !== undefined)
  const wantHead = Math.min(maxHead, Math.max(0, ...probing.map(({ probe }) => probe?.head ?? 0)))
  const wantTail = Math.min(maxTail, Math.max(0, ...probing.map(({ probe }) => probe?.tail ?? 0)))
  if (wantHead > head.length) head = await readHead(storage, wantHead, options)
  if (wantTail > tail.length) tail = await readTail(storage, wantTail, options)
  const found = probing.filter(({ probe }) =>
    probe?.matches({
      head: head.subarray(0, probe.head),
      tail: tail.subarray(tail.length - Math.min(tail.length, probe.tail ?? 0)),
      size: storage.size,
      label: storage.label,
    }),
  )
  const there = new Set([...formats, ...registry.unloaded].map(({ name }) => name))
  const absent = officialFormats.filter(({ name, magic }) => !there.has(name) && magic?.some(has))
  const names = [...found, ...absent].map(({ name }) => name)
  if (names.length > 1) {
    throw new ImageError('IMG_AMBIGUOUS_FORMAT', `${storage.label} looks like ${names.join(' and ')}`, {
      source: storage.label,
      hint: 'name the format with -f; a file made to look like two is not to be trusted',
    })
  }
  for (const { name } of absent) {
    const error = missing(name)
    throw new ImageError(error.code, `${storage.label}: ${error.message}`, {
      ...error,
      source: storage.label,
    })
  }
  return found[0]
}

async function readHead(storage: Storage, length: number, options: IoOptions): Promise<Uint8Array> {
  const head = new Uint8Array(Math.min(length, storage.size))
  if (head.length > 0) await storage.read(0, head, options)
  return head
}

async function readTail(storage: Storage, length: number, options: IoOptions): Promise<Uint8Array> {
  const tail = new Uint8Array(Math.min(length, storage.size))
  if (tail.length > 0) await storage.read(storage.size - tail.length, tail, options)
  return tail
}

/** True where these bytes from the start and from the end of a file hold a magic number. */
export function matchesMagic({ offset, hex }: Magic, head: Uint8Array, tail: Uint8Array): boolean {
  const bytes = offset < 0 ? tail : head
  const start = offset < 0 ? tail.length + offset : offset
  if (start < 0 || start + hex.length / 2 > bytes.length) return false
  for (let i = 0; i < hex.length / 2; i++) {
    if (bytes[start + i] !== Number.parseInt(hex.slice(i * 2, i * 2 + 2), 16)) return false
  }
  return true
}
