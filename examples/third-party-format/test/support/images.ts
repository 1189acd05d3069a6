import {
  createImage,
  createRegistry,
  type DiskImage,
  type MemoryStorage,
  memoryStorage,
  type OpenOptions,
  openImage,
  type ReferenceResolver,
  referencesFrom,
  type Storage,
} from '@img/core'
import { vpc } from '../../src/format.js'

const registry = createRegistry([vpc])

/** Files by name, as a reference resolver: each opening gets a storage of its own. */
export type Files = Readonly<Record<string, Uint8Array>>

export function filesOf(files: Files): ReferenceResolver {
  return referencesFrom(
    Object.fromEntries(
      Object.entries(files).map(([name, bytes]) => [name, () => memoryStorage(bytes, { label: name })]),
    ),
  )
}

/** Opens a VHD as `vpc`. */
export function open(
  storage: Storage | Uint8Array,
  options: Omit<OpenOptions, 'references'> & { readonly files?: Files } = {},
): Promise<DiskImage> {
  const { files, ...rest } = options
  return openImage(storage instanceof Uint8Array ? memoryStorage(storage, { label: 'disk.vhd' }) : storage, {
    registry,
    format: 'vpc',
    ...(files && { references: filesOf(files) }),
    ...rest,
  })
}

/** A new empty image. */
export async function create(
  size: number,
  options: Readonly<Record<string, unknown>> = {},
  files: Files = {},
): Promise<MemoryStorage> {
  const target = memoryStorage(undefined, { label: 'disk.vhd' })
  await createImage(vpc, target, { size, options, references: filesOf(files) })
  return target
}

/** All that the guest sees. */
export async function content(image: DiskImage): Promise<Uint8Array> {
  const bytes = new Uint8Array(image.size)
  await image.read(0, bytes)
  return bytes
}

/** Bytes that are never zero and tell where they stand. */
export function pattern(length: number, seed: number): Uint8Array {
  const bytes = new Uint8Array(length)
  for (let i = 0; i < length; i++) bytes[i] = 1 + ((seed * 37 + i + Math.floor(i / 251)) % 255)
  return bytes
}

/** Copies of bytes: `image.write` and the like must not share them. */
export function copy(storage: MemoryStorage): Uint8Array {
  return storage.bytes().slice()
}

/** Changes bytes of a 512-byte footer or 1024-byte header and makes its checksum right again. */
export function patched(bytes: Uint8Array, checksumAt: number, change: (view: DataView) => void): Uint8Array {
  const copied = bytes.slice()
  const view = new DataView(copied.buffer)
  change(view)
  view.setUint32(checksumAt, 0)
  let sum = 0
  for (const byte of copied) sum += byte
  view.setUint32(checksumAt, ~sum >>> 0)
  return copied
}

/** The same for a footer inside a file. */
export function patchFooter(file: Uint8Array, at: number, change: (view: DataView) => void): void {
  file.set(patched(file.slice(at, at + 512), 64, change), at)
}

/** The same for a dynamic header inside a file. */
export function patchHeader(file: Uint8Array, change: (view: DataView) => void, at = 512): void {
  file.set(patched(file.slice(at, at + 1024), 36, change), at)
}
