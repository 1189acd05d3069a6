import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  createImage,
  createRegistry,
  type DiskImage,
  type MemoryStorage,
  memoryStorage,
  openImage,
  streamImage,
} from '@img/core'
import { afterAll, describe, expect, it } from 'vitest'
import { luks } from '../src/format.js'

const dir = mkdtempSync(join(tmpdir(), 'luks-'))
afterAll(() => rmSync(dir, { recursive: true, force: true }))

const hasQemu = spawnSync('qemu-img', ['--version']).status === 0
const secretObject = ['--object', 'secret,id=s,data=a passphrase']
const size = 1024 * 1024

function secret(id: string | undefined): Uint8Array {
  return new TextEncoder().encode(id ?? 'a passphrase')
}

function qemu(tool: string, ...args: string[]): string {
  const { status, stdout, stderr } = spawnSync(tool, args, { encoding: 'utf8' })
  if (status !== 0) throw new Error(`${tool}: ${stdout}${stderr}`)
  return stdout
}

function opts(path: string): string {
  return `driver=luks,key-secret=s,file.filename=${path}`
}

async function make(options: Record<string, unknown> = {}): Promise<MemoryStorage> {
  const storage = memoryStorage()
  await createImage(luks, storage, { size, options: { 'iter-time': 1, ...options }, secret })
  return storage
}

async function bytesOf(storage: MemoryStorage): Promise<Uint8Array> {
  const bytes = new Uint8Array(storage.size)
  await storage.read(0, bytes)
  return bytes
}

async function contentOf(disk: DiskImage): Promise<Uint8Array> {
  const bytes = new Uint8Array(disk.size)
  await disk.read(0, bytes)
  return bytes
}

describe('a new LUKS disk', () => {
  it('is written in full, with every preallocation, and iter-time may be 0', async () => {
    for (const preallocation of ['off', 'metadata', 'falloc', 'full']) {
      const storage = await make({ preallocation, 'iter-time': 0 })
      const disk = await openImage(storage, { format: luks, secret })
      expect(disk.size).toBe(size)
      expect((await contentOf(disk)).every((byte) => byte === 0)).toBe(true)
      await disk.close()
    }
    await expect(make({ preallocation: 'some' })).rejects.toMatchObject({ code: 'IMG_BAD_OPTION' })
  })
})

describe.skipIf(!hasQemu)('LUKS disks and QEMU (skipped without qemu-img)', () => {
  for (const options of [
    {},
    { 'cipher-alg': 'aes-192', 'hash-alg': 'sha512' },
    { 'cipher-mode': 'cbc', 'ivgen-alg': 'essiv' },
  ]) {
    it(`made here, changed by QEMU, read and changed here: ${JSON.stringify(options)}`, async () => {
      const path = join(dir, 'disk.luks')
      writeFileSync(path, await bytesOf(await make(options)))
      qemu('qemu-io', ...secretObject, '--image-opts', '-c', 'write -P 7 1000 70000', opts(path))
      const model = new Uint8Array(size).fill(7, 1000, 71_000)
      const storage = memoryStorage(readFileSync(path))
      const disk = await openImage(storage, { format: luks, writable: true, secret })
      expect(Buffer.compare(await contentOf(disk), model)).toBe(0)
      await disk.write?.(300_001, new Uint8Array(5000).fill(9))
      model.fill(9, 300_001, 305_001)
      await disk.resize?.(size + 512 * 100)
      await disk.flush?.()
      writeFileSync(path, await bytesOf(storage))
      await disk.close()
      qemu('qemu-img', 'convert', ...secretObject, '--image-opts', opts(path), '-O', 'raw', `${path}.raw`)
      expect(
        Buffer.compare(readFileSync(`${path}.raw`), Buffer.concat([model, new Uint8Array(51_200)])),
      ).toBe(0)
    })
  }

  it('is told of as by qemu-img info', async () => {
    const path = join(dir, 'info.luks')
    const storage = await make()
    writeFileSync(path, await bytesOf(storage))
    const theirs = JSON.parse(qemu('qemu-img', 'info', '--output=json', '-f', 'luks', path)) as {
      'virtual-size': number
      'format-specific': { data: unknown }
    }
    const disk = await openImage(storage, { format: luks, inspect: true })
    expect(disk.size).toBe(theirs['virtual-size'])
    expect((await disk.info()).specific).toEqual(theirs['format-specific'].data)
    expect(disk.unreadable).toMatchObject({ code: 'IMG_SECRET_MISSING' })
    await disk.close()
  })
})

describe('LUKS disks', () => {
  it('takes as much as is measured, and as qemu-img measures', async () => {
    const measured = await luks.measure?.({ size, options: {} })
    expect(measured).toEqual({ required: 2_068_480 + size, fullyAllocated: 2_068_480 + size })
    expect((await make()).size).toBe(measured?.required)
  })

  it('can be written to a pipe', async () => {
    const source = await openImage(await make(), { format: luks, writable: true, secret })
    await source.write?.(5000, new Uint8Array(100_000).fill(3))
    const parts: Uint8Array[] = []
    const sink = { label: 'pipe', write: async (bytes: Uint8Array) => void parts.push(bytes.slice()) }
    await streamImage(luks, source, sink, { options: { 'iter-time': 1 }, secret })
    const model = await contentOf(source)
    await source.close()
    const disk = await openImage(memoryStorage(Buffer.concat(parts)), { format: luks, secret })
    expect(Buffer.compare(await contentOf(disk), model)).toBe(0)
    await disk.close()
  })

  it('gets and loses key slots', async () => {
    const storage = await make()
    const copy = async (): Promise<MemoryStorage> => memoryStorage(await bytesOf(storage))
    const disk = await openImage(storage, { format: luks, writable: true, secret })
    await disk.amend?.({ state: 'active', 'new-secret': 'other', 'iter-time': 1 }, { secret })
    const two = await openImage(await copy(), { format: luks, secret, options: { 'key-secret': 'other' } })
    await two.close()
    await disk.amend?.({ state: 'inactive', keyslot: 0 }, { secret })
    await expect(openImage(await copy(), { format: luks, secret })).rejects.toMatchObject({
      code: 'IMG_WRONG_PASSPHRASE',
    })
    await expect(disk.amend?.({ state: 'inactive', keyslot: 1 }, { secret })).rejects.toThrow(
      /only active keyslot/,
    )
    for (const bad of [
      {},
      { state: 'x' },
      { state: 'active' },
      { state: 'inactive' },
      { state: 'inactive', keyslot: 8 },
    ]) {
      await expect(disk.amend?.(bad, { secret })).rejects.toMatchObject({ code: 'IMG_BAD_OPTION' })
    }
    await disk.close()
  })

  it('is found by its magic, and LUKS2 is named', async () => {
    const storage = await make()
    const disk = await openImage(storage, { registry: createRegistry([luks]), secret })
    expect(disk.format.name).toBe('luks')
    const bytes = await bytesOf(storage)
    await disk.close()
    bytes[7] = 2
    await expect(openImage(memoryStorage(bytes), { format: luks, secret })).rejects.toThrow(/LUKS version 2/)
    const short = openImage(memoryStorage(bytes.fill(1, 7, 8).subarray(0, 100_000)), { format: luks, secret })
    await expect(short).rejects.toMatchObject({ code: 'IMG_TRUNCATED' })
  })
})
