import { readFileSync, writeFileSync } from 'node:fs'
import {
  type CreateOptions,
  createWriter,
  type DiskImage,
  type MemoryStorage,
  memoryStorage,
  type OpenOptions,
  openImage,
} from '@img/core'
import { type Run, run } from '@tooling/test-disks/qemu'
import { qcow2 } from '../../src/format.js'

/** The passphrase of images made by tests. */
export const passphrase = 'a passphrase, not short'

const object = ['--object', `secret,id=s,format=raw,data=${passphrase.replaceAll(',', ',,')}`]

/** The bytes of text, where a secret is asked for. */
export function secretOf(text: string): () => Uint8Array {
  return () => new TextEncoder().encode(text)
}

function imageOpts(path: string): string {
  return `driver=qcow2,encrypt.key-secret=s,file.filename=${path}`
}

function expectDone(result: Run): Run {
  if (result.status !== 0) throw new Error(`${result.stdout}\n${result.stderr}`)
  return result
}

/** Makes an encrypted image with qemu-img. */
export function qemuCreate(path: string, size: number, options: string): void {
  const args = [
    'create',
    '-q',
    ...object,
    '-f',
    'qcow2',
    '-o',
    `encrypt.key-secret=s,${options}`,
    path,
    `${size}`,
  ]
  // QEMU measures the time that a few milliseconds of PBKDF2 take, and on a busy machine it may be told none.
  for (let tries = 0; tries < 30; tries++) {
    const result = run('qemu-img', ...args)
    if (!result.stderr.includes('CPU usage')) {
      expectDone(result)
      return
    }
  }
  throw new Error('qemu-img create found no time to measure')
}

/** Runs commands of qemu-io on an encrypted image; throws where one fails. */
export function qemuIo(path: string, ...commands: string[]): void {
  const result = run(
    'qemu-io',
    ...object,
    '--image-opts',
    ...commands.flatMap((c) => ['-c', c]),
    imageOpts(path),
  )
  expectDone(result)
  if (/failed|error/i.test(result.stdout)) throw new Error(result.stdout)
}

/** What QEMU reads in an encrypted image. */
export function qemuRead(path: string): Uint8Array {
  const raw = `${path}.raw`
  expectDone(run('qemu-img', 'convert', ...object, '--image-opts', imageOpts(path), '-O', 'raw', raw))
  return readFileSync(raw)
}

/** Throws unless `qemu-img check` finds nothing. */
export function qemuCheck(path: string): void {
  expectDone(run('qemu-img', 'check', ...object, '--image-opts', imageOpts(path)))
}

/** Changes key slots with qemu-img. */
export function qemuAmend(path: string, options: string, ...more: string[]): Run {
  return run('qemu-img', 'amend', ...object, ...more, '--image-opts', '-o', options, imageOpts(path))
}

/** A file as a storage in memory. */
export function load(path: string): MemoryStorage {
  return memoryStorage(readFileSync(path))
}

/** Bytes of a storage. */
export async function bytesOf(storage: MemoryStorage): Promise<Uint8Array> {
  const bytes = new Uint8Array(storage.size)
  await storage.read(0, bytes)
  return bytes
}

/** Puts a storage in memory into a file. */
export async function save(storage: MemoryStorage, path: string): Promise<void> {
  writeFileSync(path, await bytesOf(storage))
}

/** Opens an encrypted image. */
export function open(storage: MemoryStorage, options: OpenOptions = {}): Promise<DiskImage> {
  const kept = Object.assign(Object.create(storage) as MemoryStorage, { close: async () => undefined })
  return openImage(shared(kept, storage), { format: qcow2, secret: secretOf(passphrase), ...options })
}

/** The storage, which stays open when the image is closed. */
function shared(kept: MemoryStorage, storage: MemoryStorage): MemoryStorage {
  return new Proxy(storage, {
    get(target, name) {
      if (name === 'close') return kept.close
      const value = Reflect.get(target, name, target) as unknown
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
}

/** What the guest sees. */
export async function contentOf(disk: DiskImage): Promise<Uint8Array> {
  const bytes = new Uint8Array(disk.size)
  await disk.read(0, bytes)
  return bytes
}

/** Makes an encrypted image with data in it. */
export async function make(
  options: CreateOptions['options'],
  size: number,
  pieces: readonly { readonly offset: number; readonly bytes: Uint8Array }[],
): Promise<MemoryStorage> {
  const storage = memoryStorage()
  const given = { 'encrypt.iter-time': '1', ...options }
  const writer = await createWriter(qcow2, storage, { size, options: given, secret: secretOf(passphrase) })
  for (const { offset, bytes } of pieces) {
    for (let at = 0; at < bytes.length; ) {
      const room = await writer.place(offset + at, bytes.length - at)
      await room.storage.write(room.hostOffset, bytes.subarray(at, at + room.length))
      at += room.length
    }
  }
  await writer.finish()
  return storage
}
