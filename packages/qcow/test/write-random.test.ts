import { createHash } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { convert, createWriter, openImage } from '@img/core'
import { content, random } from '@tooling/test-disks/disks'
import { assertSame, hasQemu, run } from '@tooling/test-disks/qemu'
import { FileStorage, MemoryStorage } from '@tooling/test-disks/storage'
import { describe, expect, it } from 'vitest'
import { qcow } from '../src/format.js'
import { serialiseHeader } from '../src/header.js'
import { open, registry } from './support/disks.js'

const MB = 1024 * 1024
const size = 5 * MB + 512
/** Reads a whole image with libqcow; prints its size and the sha256 of its content. */
const reader = `
import ctypes, sys, hashlib
lib = ctypes.CDLL('libqcow.so.1')
lib.libqcow_file_read_buffer_at_offset.restype = ctypes.c_ssize_t
image, size = ctypes.c_void_p(0), ctypes.c_uint64(0)
if len(sys.argv) > 1:
    assert lib.libqcow_file_initialize(ctypes.byref(image), None) == 1
    assert lib.libqcow_file_open(image, sys.argv[1].encode(), 1, None) == 1
    assert lib.libqcow_file_get_media_size(image, ctypes.byref(size), None) == 1
    digest, at, buffer = hashlib.sha256(), 0, ctypes.create_string_buffer(65536)
    while at < size.value:
        want = ctypes.c_size_t(min(65536, size.value - at))
        got = lib.libqcow_file_read_buffer_at_offset(image, buffer, want, ctypes.c_int64(at), None)
        assert got > 0
        digest.update(buffer.raw[:got])
        at += got
    print(size.value, digest.hexdigest())
`
const hasLibqcow = run('python3', '-c', reader).status === 0
if (!hasLibqcow) console.warn('python3 or libqcow is missing: it does not read what is written here')

/** A disk of noise, text and holes. */
function pattern(seed: number): Uint8Array {
  const next = random(seed)
  const bytes = new Uint8Array(size)
  for (let at = 0; at < size; ) {
    const length = Math.min(size - at, 1 + Math.floor(next() * 100_000))
    const kind = next()
    if (kind < 0.3) for (let i = at; i < at + length; i++) bytes[i] = Math.floor(next() * 256)
    else if (kind < 0.7) for (let i = at; i < at + length; i++) bytes[i] = 97 + (i % 11)
    at += length
  }
  return bytes
}

async function make(path: string, bytes: Uint8Array, compress: boolean): Promise<void> {
  const target = new FileStorage(path)
  const writer = await createWriter(qcow, target, { size, compress })
  await using source = await openImage(new MemoryStorage(bytes), { registry, format: 'raw' })
  await convert(source, writer)
  await writer.close?.()
  await target.close()
}

/** An empty image with clusters and tables of sizes that no tool makes. */
async function makeEmpty(path: string, clusterBits: number, l2Bits: number): Promise<void> {
  const l1Size = Math.ceil(size / 2 ** (clusterBits + l2Bits))
  const header = { storedSize: size, size, clusterBits, clusterSize: 2 ** clusterBits, l2Bits }
  const bytes = new Uint8Array(48 + l1Size * 8)
  bytes.set(serialiseHeader({ ...header, backing: undefined, cryptMethod: 0, l1Offset: 48, l1Size }))
  writeFileSync(path, bytes)
}

const cases = [
  { title: '', compress: false },
  { title: ', compressed at first', compress: true },
  { title: ' (smallest clusters and tables)', sizes: [9, 6] },
  { title: ' (smallest clusters, largest tables)', sizes: [9, 13] },
  { title: ' (largest clusters, smallest tables)', sizes: [16, 6] },
  { title: ' (largest clusters and tables)', sizes: [16, 13] },
] as const

describe.skipIf(!hasQemu)('side by side with QEMU (skipped without it)', () => {
  for (const { title, ...how } of cases) {
    it(`written by turns with qemu-io${title}: both see the same`, async () => {
      const next = random(Number(process.env.IMG_TEST_SEED ?? 42))
      const dir = mkdtempSync(join(tmpdir(), 'qcow-write-'))
      const path = join(dir, 'disk.qcow')
      const model = 'sizes' in how ? new Uint8Array(size) : pattern(7)
      const check = async (): Promise<void> => {
        await using image = await open(new FileStorage(path, { flags: 'r' }))
        expect(Buffer.compare(await content(image), model)).toBe(0)
        expect(await image.check?.()).toMatchObject({ checkErrors: 0, corruptions: 0 })
        writeFileSync(join(dir, 'model.raw'), model)
        assertSame('qcow', join(dir, 'model.raw'), path)
      }
      try {
        if ('sizes' in how) await makeEmpty(path, how.sizes[0], how.sizes[1])
        else await make(path, model, how.compress)
        await check()
        const rounds = 'sizes' in how ? 2 : 5
        for (let round = 0; round < rounds; round++) {
          const image = await open(new FileStorage(path, { flags: 'r+' }), { writable: true })
          for (let i = 0; i < 12; i++) {
            const offset = Math.floor(next() * size)
            const length = Math.min(size - offset, Math.floor(next() ** 3 * MB) + 1)
            const value = 1 + Math.floor(next() * 255)
            const pick = next()
            if (pick < 0.6) await image.write?.(offset, new Uint8Array(length).fill(value))
            else await image.writeZeroes?.(offset, length)
            model.fill(pick < 0.6 ? value : 0, offset, offset + length)
          }
          // Whole clusters, however large they are.
          const start = Math.floor(next() * 70) * 65536
          model.fill(round + 1, start, start + 4 * 65536)
          await image.writeCompressed?.(start, model.slice(start, start + 4 * 65536))
          if (round === rounds - 2) await image.compact?.()
          await image.close()
          await check()
          for (let i = 0; i < 3; i++) {
            const offset = Math.floor(next() * (size / 512 - 1)) * 512
            const length = Math.min(size - offset, (1 + Math.floor(next() * 800)) * 512)
            const value = 1 + Math.floor(next() * 255)
            const done = run('qemu-io', '-f', 'qcow', '-c', `write -P ${value} ${offset} ${length}`, path)
            expect(done.status, done.stderr).toBe(0)
            model.fill(value, offset, offset + length)
          }
          await check()
        }
      } finally {
        rmSync(dir, { recursive: true, force: true })
      }
    })
  }
})

it.skipIf(!hasQemu)('encrypts as QEMU does (skipped without it)', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'qcow-aes-'))
  try {
    const path = join(dir, 'disk.qcow')
    const bytes = pattern(11)
    const secret = () => new TextEncoder().encode('open sesame, and more than 16 bytes')
    const target = new FileStorage(path)
    const options = { 'encrypt.format': 'aes', 'encrypt.key-secret': 's' }
    const writer = await createWriter(qcow, target, { size, options, secret })
    await using source = await openImage(new MemoryStorage(bytes), { registry, format: 'raw' })
    await convert(source, writer)
    await writer.close?.()
    const image = await open(target, { secret, writable: true })
    await image.write?.(777, new Uint8Array(9000).fill(5))
    bytes.fill(5, 777, 9777)
    await image.close()
    const key = ['--object', 'secret,id=s,data=open sesame,, and more than 16 bytes']
    const opts = `driver=qcow,encrypt.key-secret=s,file.filename=${path}`
    const done = run('qemu-img', 'convert', ...key, '--image-opts', opts, '-O', 'raw', join(dir, 'out.raw'))
    expect(done.stderr).toBe('')
    expect(Buffer.compare(readFileSync(join(dir, 'out.raw')), bytes)).toBe(0)
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
})

describe.skipIf(!hasLibqcow)('libqcow (skipped without it and python3)', () => {
  for (const compress of [false, true]) {
    it(`reads the same${compress ? ', compressed' : ''}`, async () => {
      const dir = mkdtempSync(join(tmpdir(), 'qcow-lib-'))
      try {
        const path = join(dir, 'disk.qcow')
        const bytes = pattern(3)
        await make(path, bytes, compress)
        const digest = createHash('sha256').update(bytes).digest('hex')
        expect(run('python3', '-c', reader, path).stdout.trim()).toBe(`${size} ${digest}`)
      } finally {
        rmSync(dir, { recursive: true, force: true })
      }
    })
  }
})
