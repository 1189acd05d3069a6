import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type DiskImage, memoryStorage } from '@img/core'
import { hasQemu } from '@tooling/test-disks/qemu'
import { afterAll, describe, expect, it } from 'vitest'
import { registry } from './support/disks.js'
import {
  bytesOf,
  contentOf,
  load,
  make,
  open,
  passphrase,
  qemuAmend,
  qemuCheck,
  qemuCreate,
  qemuIo,
  qemuRead,
  save,
  secretOf,
} from './support/encryption.js'

const dir = mkdtempSync(join(tmpdir(), 'qcow2-encryption-'))
afterAll(() => rmSync(dir, { recursive: true, force: true }))

const MiB = 1024 * 1024

/** Bytes that repeat nowhere near. */
function pattern(length: number, seed = 1): Uint8Array {
  const bytes = new Uint8Array(length)
  let state = seed
  for (let i = 0; i < length; i++) {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0
    bytes[i] = state >>> 16
  }
  return bytes
}

/** Every combination that qemu-img creates, as options below `encrypt.`. */
const ciphers: Record<string, string>[] = []
for (const mode of ['xts', 'cbc']) {
  for (const bits of [128, 192, 256]) {
    // QEMU itself stops at an assertion there.
    if (mode === 'cbc' && bits === 192) continue
    for (const ivgen of ['plain', 'plain64', 'essiv']) {
      ciphers.push({ format: 'luks', 'cipher-alg': `aes-${bits}`, 'cipher-mode': mode, 'ivgen-alg': ivgen })
    }
  }
}
for (const hash of ['sha1', 'sha512', 'sha224', 'sha384', 'ripemd160', 'md5'])
  ciphers.push({ format: 'luks', 'hash-alg': hash })
ciphers.push({ format: 'luks', 'cipher-mode': 'cbc', 'ivgen-alg': 'essiv', 'ivgen-hash-alg': 'md5' })
ciphers.push({ format: 'aes' })

function below(options: Record<string, string>): Record<string, string> {
  return Object.fromEntries(Object.entries(options).map(([name, value]) => [`encrypt.${name}`, value]))
}

const text = (options: Record<string, string>): string =>
  Object.entries(below(options))
    .map(([name, value]) => `${name}=${value}`)
    .join(',')

/** Writes here and there, and does the same to a plain array. */
async function change(disk: DiskImage, model: Uint8Array): Promise<void> {
  for (const [offset, length, seed] of [
    [0, 512, 5],
    [70_000, 3000, 6],
    [MiB - 10, 200_000, 7],
    [2 * MiB - 700, 700, 8],
  ] as const) {
    const bytes = pattern(length, seed)
    await disk.write?.(offset, bytes)
    model.set(bytes, offset)
  }
  await disk.writeZeroes?.(300_000, 100_000)
  model.fill(0, 300_000, 400_000)
}

// QEMU measures for seconds before it makes a LUKS header: the first few every day, all of them with IMG_ENCRYPTION=all.
const made = process.env.IMG_ENCRYPTION === 'all' ? ciphers : [ciphers[5], ciphers[11], ciphers.at(-1)]

describe.skipIf(!hasQemu)('encryption, with QEMU (skipped without qemu-img)', () => {
  for (const options of made.filter((choice) => choice !== undefined)) {
    const name = Object.values(options).join(' ')
    it(`${name}: made by QEMU, read and written here, read by QEMU`, async () => {
      const path = join(dir, 'theirs.qcow2')
      qemuCreate(path, 2 * MiB, text(options.format === 'luks' ? { ...options, 'iter-time': '10' } : options))
      qemuIo(path, 'write -P 7 0 70000', 'write -P 9 1000000 300000')
      const storage = load(path)
      const disk = await open(storage, { writable: true })
      const model = await contentOf(disk)
      expect([model[69_999], model[70_000], model[1_000_000], model[1_300_000]]).toEqual([7, 0, 9, 0])
      await change(disk, model)
      await disk.close()
      await save(storage, path)
      qemuCheck(path)
      expect(Buffer.compare(qemuRead(path), model)).toBe(0)
    })
  }

  for (const options of ciphers) {
    const name = Object.values(options).join(' ')
    it(`${name}: made here, read and written by QEMU, read here`, async () => {
      const path = join(dir, 'ours.qcow2')
      const model = new Uint8Array(2 * MiB)
      const bytes = pattern(3 * 65536)
      model.set(bytes, 65536)
      model.set(bytes.subarray(0, 65536), 2 * MiB - 65536)
      const storage = await make(below(options), 2 * MiB, [
        { offset: 65536, bytes },
        { offset: 2 * MiB - 65536, bytes: bytes.subarray(0, 65536) },
      ])
      await save(storage, path)
      qemuCheck(path)
      const before = qemuRead(path)
      expect(Buffer.compare(before, model)).toBe(0)
      qemuIo(path, 'write -P 3 100000 100000', 'write -P 4 1500000 5000')
      model.fill(3, 100_000, 200_000)
      model.fill(4, 1_500_000, 1_505_000)
      const disk = await open(load(path))
      const now = await contentOf(disk)
      await disk.close()
      expect(Buffer.compare(now, model)).toBe(0)
    })
  }

  for (const options of [
    { 'encrypt.format': 'luks', cluster_size: '512' },
    { 'encrypt.format': 'luks', cluster_size: '2M' },
    { 'encrypt.format': 'luks', extended_l2: 'on', preallocation: 'metadata' },
    { 'encrypt.format': 'luks', preallocation: 'full', refcount_bits: '1' },
    { 'encrypt.format': 'luks', preallocation: 'falloc' },
    { 'encrypt.format': 'aes', preallocation: 'metadata', compat: '0.10' },
    { 'encrypt.format': 'luks', preallocation: 'metadata', compat: '0.10' },
    { encryption: 'on' },
  ]) {
    it(`${JSON.stringify(options)}: what nobody wrote is zero, for QEMU as well`, async () => {
      const path = join(dir, 'options.qcow2')
      const size = 3 * MiB + 512
      const clusterSize = 2 * MiB
      const bytes = pattern(clusterSize)
      const model = new Uint8Array(size)
      model.set(bytes.subarray(0, MiB + 512), clusterSize)
      const storage = await make(options, size, [
        { offset: clusterSize, bytes: bytes.subarray(0, MiB + 512) },
      ])
      await save(storage, path)
      qemuCheck(path)
      expect(Buffer.compare(qemuRead(path), model)).toBe(0)
      const disk = await open(storage, { writable: true })
      expect(Buffer.compare(await contentOf(disk), model)).toBe(0)
      await disk.write?.(10, pattern(5000, 3))
      model.set(pattern(5000, 3), 10)
      await disk.resize?.(size + MiB)
      await disk.close()
      await save(storage, path)
      qemuCheck(path)
      const grown = new Uint8Array(size + MiB)
      grown.set(model)
      expect(Buffer.compare(qemuRead(path), grown)).toBe(0)
    })
  }

  for (const format of ['luks', 'aes']) {
    it(`${format}: made version 2, and grown with room, zeros stay zeros`, async () => {
      const path = join(dir, 'older.qcow2')
      const base = join(dir, 'older.raw')
      writeFileSync(base, pattern(MiB))
      // An overlay with the legacy cipher would need zeros that depend on where they are.
      const more = format === 'luks' ? `,encrypt.iter-time=10,backing_file=${base},backing_fmt=raw` : ''
      const model = format === 'luks' ? pattern(MiB) : new Uint8Array(MiB)
      qemuCreate(path, MiB, `encrypt.format=${format}${more}`)
      qemuIo(path, 'write -P 7 0 256k', 'write -z 64k 64k', 'write -zu 512k 128k')
      model
        .fill(7, 0, 256 * 1024)
        .fill(0, 64 * 1024, 128 * 1024)
        .fill(0, 512 * 1024, 640 * 1024)
      const storage = load(path)
      const references = { open: async () => ({ storage: load(base) }) }
      const disk = await open(storage, { writable: true, references, registry })
      await disk.amend?.({ compat: '0.10' })
      await disk.resize?.(2 * MiB, { preallocation: 'metadata' })
      await disk.close()
      await save(storage, path)
      qemuCheck(path)
      const grown = new Uint8Array(2 * MiB)
      grown.set(model)
      expect(Buffer.compare(qemuRead(path), grown)).toBe(0)
    })
  }

  it('adds and erases key slots that QEMU opens, and opens those that QEMU adds', async () => {
    const path = join(dir, 'slots.qcow2')
    const storage = await make({ 'encrypt.format': 'luks' }, MiB, [{ offset: 0, bytes: pattern(65536) }])
    const disk = await open(storage, { writable: true })
    const secret = (id: string | undefined): Uint8Array => new TextEncoder().encode(`secret ${id}`)
    const amend = (options: Record<string, unknown>, force = false) =>
      disk.amend?.(options, { secret, force })
    await amend({ 'encrypt.state': 'active', 'encrypt.new-secret': 'two', 'encrypt.iter-time': 1 })
    await amend({
      'encrypt.state': 'active',
      'encrypt.new-secret': 'three',
      'encrypt.keyslot': 6,
      'encrypt.iter-time': 1,
    })
    const again = { 'encrypt.state': 'active', 'encrypt.new-secret': 'x', 'encrypt.keyslot': 6 }
    await expect(amend(again)).rejects.toThrow(/Refusing to overwrite active keyslot 6/)
    const wrong = { 'encrypt.state': 'inactive', 'encrypt.old-secret': 'none' }
    await expect(amend(wrong)).rejects.toMatchObject({ code: 'IMG_WRONG_PASSPHRASE' })
    await amend({ 'encrypt.state': 'inactive', 'encrypt.old-secret': 'two' })
    await disk.close()
    await save(storage, path)
    qemuCheck(path)
    const two = open(storage, { secret: secretOf('secret two') })
    await expect(two).rejects.toMatchObject({ code: 'IMG_WRONG_PASSPHRASE' })
    const third = await open(storage, { secret: secretOf('secret three') })
    expect(Buffer.compare((await contentOf(third)).subarray(0, 65536), pattern(65536))).toBe(0)
    await third.close()

    const more = ['--object', 'secret,id=n,data=their own']
    for (let tries = 0; tries < 30; tries++) {
      const added = qemuAmend(
        path,
        'encrypt.state=active,encrypt.new-secret=n,encrypt.keyslot=7,encrypt.iter-time=10',
        ...more,
      )
      if (!added.stderr.includes('CPU usage')) {
        expect(added).toMatchObject({ status: 0 })
        break
      }
    }
    expect(qemuAmend(path, 'encrypt.state=inactive,encrypt.keyslot=0')).toMatchObject({ status: 0 })
    const theirs = load(path)
    const opened = await open(theirs, { secret: secretOf('their own'), writable: true })
    expect(Buffer.compare((await contentOf(opened)).subarray(0, 65536), pattern(65536))).toBe(0)
    await opened.amend?.({ 'encrypt.state': 'inactive', 'encrypt.keyslot': 6 })
    const last = { 'encrypt.state': 'inactive', 'encrypt.keyslot': 7 }
    await expect(opened.amend?.(last)).rejects.toThrow(/only active keyslot/)
    await opened.amend?.(last, { force: true })
    await opened.close()
    await expect(open(theirs)).rejects.toMatchObject({ code: 'IMG_WRONG_PASSPHRASE' })
  })
})

describe('encryption', () => {
  it('keeps content through snapshots, discards and rewriting', async () => {
    for (const format of ['luks', 'aes']) {
      const model = new Uint8Array(2 * MiB)
      model.set(pattern(400_000), 0)
      const storage = await make({ 'encrypt.format': format, cluster_size: '4k' }, 2 * MiB, [
        { offset: 0, bytes: pattern(400_000 - (400_000 % 4096)) },
      ])
      model.fill(0, 400_000 - (400_000 % 4096))
      const disk = await open(storage, { writable: true })
      await disk.snapshots?.create?.('one')
      const before = model.slice()
      await change(disk, model)
      await disk.discard?.(0, 65536)
      model.fill(0, 0, 65536)
      expect(Buffer.compare(await contentOf(disk), model)).toBe(0)
      const snapshot = await disk.snapshots?.open('one')
      expect(Buffer.compare(await contentOf(snapshot as DiskImage), before)).toBe(0)
      await snapshot?.close()
      await disk.close()
      // Nothing of it stands in the file as it is.
      const file = Buffer.from(await bytesOf(storage))
      expect(file.indexOf(pattern(64))).toBe(-1)
      const again = await open(storage)
      expect(Buffer.compare(await contentOf(again), model)).toBe(0)
      await again.close()
    }
  })

  it('asks for a secret to read, not to look', async () => {
    const storage = await make({ 'encrypt.format': 'luks' }, MiB, [])
    const locked = await open(storage, { inspect: true, secret: undefined })
    expect(locked.unreadable).toMatchObject({ code: 'IMG_SECRET_MISSING' })
    expect(await locked.info()).toMatchObject({ encrypted: true, specific: { encrypt: { format: 'luks' } } })
    await locked.close()
    await expect(open(storage, { secret: undefined })).rejects.toMatchObject({ code: 'IMG_SECRET_MISSING' })
    const wrong = open(storage, { secret: secretOf('no') })
    await expect(wrong).rejects.toMatchObject({ code: 'IMG_WRONG_PASSPHRASE' })
    const other = open(storage, { options: { 'encrypt.format': 'aes' } })
    await expect(other).rejects.toMatchObject({ code: 'IMG_BAD_OPTION' })
  })

  it('asks for the secret that an option names', async () => {
    const asked: (string | undefined)[] = []
    const storage = await make({ 'encrypt.format': 'luks' }, MiB, [])
    const secret = (id: string | undefined): Uint8Array => {
      asked.push(id)
      return new TextEncoder().encode(passphrase)
    }
    await (await open(storage, { secret, options: { 'encrypt.key-secret': 'sec0' } })).close()
    expect(asked).toEqual(['sec0'])
  })

  it('refuses what cannot go with encryption', async () => {
    const bad = { code: 'IMG_BAD_OPTION' }
    for (const options of [
      { encryption: 'on', 'encrypt.format': 'luks' },
      { 'encrypt.cipher-alg': 'aes-128' },
      { 'encrypt.format': 'rot13' },
      { 'encrypt.format': 'luks', 'encrypt.cipher-alg': 'serpent-256' },
      { 'encrypt.format': 'luks', 'encrypt.cipher-mode': 'ecb' },
      { 'encrypt.format': 'luks', 'encrypt.ivgen-alg': 'essiv', 'encrypt.ivgen-hash-alg': 'sha1' },
      { 'encrypt.format': 'luks', 'encrypt.hash-alg': 'sha3' },
      { 'encrypt.format': 'luks', 'encrypt.iter-time': 'long' },
      { 'encrypt.format': 'luks', 'encrypt.iter-time': '1000000000000' },
      { 'encrypt.format': 'luks', data_file: 'x', data_file_raw: 'on' },
    ]) {
      await expect(make(options, MiB, []), JSON.stringify(options)).rejects.toMatchObject(bad)
    }
    const disk = await open(await make({ 'encrypt.format': 'luks' }, MiB, []), { writable: true })
    expect(disk.writeCompressed).toBeUndefined()
    await disk.close()
  })

  it('refuses damaged encryption headers before it works for them', async () => {
    const sound = await bytesOf(await make({ 'encrypt.format': 'luks' }, MiB, []))
    const at = 65536
    for (const [offset, hex, code] of [
      [0, '00', 'IMG_NOT_THIS_FORMAT'],
      [7, '02', 'IMG_UNSUPPORTED'],
      [8, '7365', 'IMG_UNSUPPORTED'],
      [40, '6374', 'IMG_UNSUPPORTED'],
      [40, 'ff'.repeat(32), 'IMG_CORRUPT'],
      [72, '78', 'IMG_UNSUPPORTED'],
      [104, '00000000', 'IMG_UNSUPPORTED'],
      [104, '00000010', 'IMG_CORRUPT'],
      [108, '7fffffff', 'IMG_CORRUPT'],
      [108, '00000020', 'IMG_WRONG_PASSPHRASE'],
      [164, '00000000', 'IMG_CORRUPT'],
      [164, 'ffffffff', 'IMG_UNSUPPORTED'],
      [208, '00000001', 'IMG_CORRUPT'],
      [208, '0000dead', 'IMG_WRONG_PASSPHRASE'],
      [212, '00000000', 'IMG_CORRUPT'],
      [212, 'ffffffff', 'IMG_UNSUPPORTED'],
      [248, '00000001', 'IMG_CORRUPT'],
      [248, 'ffffffff', 'IMG_CORRUPT'],
      [252, '00000000', 'IMG_CORRUPT'],
      [252, 'ffffffff', 'IMG_CORRUPT'],
      [296, '00000009', 'IMG_CORRUPT'],
    ] as const) {
      const bytes = sound.slice()
      bytes.set(Buffer.from(hex, 'hex'), at + offset)
      const result = open(memoryStorage(bytes))
      await expect(result, `${hex} at ${offset}`).rejects.toMatchObject({ code })
    }
  })
})
