import { copyFileSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { commit, type DiskImage, openImage, rebase, referencesFrom } from '@img/core'
import { content, patternDisk, random } from '@tooling/test-disks/disks'
import { assertClean, hasQemu, must, run } from '@tooling/test-disks/qemu'
import { FileStorage } from '@tooling/test-disks/storage'
import { describe, expect, it } from 'vitest'
import { registry } from './support/disks.js'
import { inDirectory } from './support/on-disk.js'
import { PowerStorage } from './support/power.js'
import { besides } from './support/write-run.js'

const KB = 1024

function open(
  dir: string,
  name: string,
  options: { writable?: boolean; base?: number; chain?: boolean; format?: string } = {},
): Promise<DiskImage> {
  const { writable = true, base, chain, format = 'qcow2' } = options
  return openImage(new FileStorage(join(dir, name), { flags: writable ? 'r+' : 'r' }), {
    registry,
    format,
    writable,
    chain,
    references: besides(dir),
    writableBacking: ({ depth }) => depth === base,
  })
}

/** What qemu-img reads in an image, chain followed. */
function seen(dir: string, name: string): Buffer {
  const out = join(dir, 'seen.raw')
  rmSync(out, { force: true })
  must('qemu-img', 'convert', '-O', 'raw', join(dir, name), out)
  return readFileSync(out)
}

interface Layer {
  readonly name: string
  readonly size: number
  readonly options: string
}

/** Writes at random places by qemu-io: data and zeros. */
function scribble(dir: string, { name, size }: Layer, next: () => number): void {
  const commands: string[] = []
  for (let i = 0; i < 12; i++) {
    const offset = Math.floor((next() * size) / 512) * 512
    const length = Math.min(size - offset, 512 * (1 + Math.floor(next() ** 2 * 400)))
    const kind = next() < 0.3 ? '-z' : `-P ${1 + Math.floor(next() * 254)}`
    commands.push('-c', `write ${kind} ${offset} ${length}`)
  }
  must('qemu-io', '-f', 'qcow2', ...commands, join(dir, name))
}

/** A raw file and layers above it, each with content of its own. */
function chain(dir: string, rawSize: number, layers: readonly Layer[], next: () => number): void {
  writeFileSync(join(dir, 'base.raw'), patternDisk(rawSize, 1 + Math.floor(next() * 1000)))
  let below = { name: 'base.raw', format: 'raw' }
  for (const layer of layers) {
    const { name, size, options } = layer
    const create = ['create', '-q', '-f', 'qcow2', '-b', below.name, '-F', below.format, '-o', options]
    must('qemu-img', ...create, join(dir, name), `${size}`)
    scribble(dir, layer, next)
    below = { name, format: 'qcow2' }
  }
}

const optionSets = [
  'cluster_size=64k',
  'cluster_size=4k,refcount_bits=1',
  'compat=0.10,cluster_size=16k',
  'extended_l2=on,cluster_size=64k',
  'cluster_size=512,refcount_bits=64',
]
const seed = Number(process.env.IMG_TEST_SEED ?? 815)

describe.skipIf(!hasQemu)('commit (skipped without qemu-img)', () => {
  it.each(optionSets)('brings everything into the base, and empties the image: %s', async (options) => {
    await inDirectory(async (dir) => {
      const next = random(seed)
      for (const [rawSize, midSize, topSize, depth] of [
        [600 * KB, 900 * KB, 1000 * KB, 1],
        [1300 * KB, 700 * KB, 1000 * KB, 2],
        [300 * KB + 512, 250 * KB, 1000 * KB, 2],
        [1300 * KB, 1000 * KB, 500 * KB, 1],
      ] as const) {
        const layers = [
          { name: 'mid.qcow2', size: midSize, options: optionSets[Math.floor(next() * 4)] as string },
          { name: 'top.qcow2', size: topSize, options },
        ]
        chain(dir, rawSize, layers, next)
        const before = seen(dir, 'top.qcow2')
        const top = await open(dir, 'top.qcow2', { base: depth })
        const base = depth === 1 ? top.backing : top.backing?.backing
        const below = await content(base as DiskImage)
        const progress: number[] = []
        const result = await commit(top, { base, onProgress: ({ done }) => progress.push(done) })
        expect(result.emptied).toBe(depth === 1)
        expect(progress.at(-1)).toBe(topSize)
        expect([...progress].sort((a, b) => a - b)).toEqual(progress)
        await top.close()
        const name = depth === 1 ? 'mid.qcow2' : 'base.raw'
        const wanted = Buffer.alloc(Math.max(topSize, below.length))
        wanted.set(below)
        wanted.set(before)
        expect(Buffer.compare(seen(dir, name), wanted), `seed ${seed}`).toBe(0)
        expect(Buffer.compare(seen(dir, 'top.qcow2'), before)).toBe(0)
        assertClean('qcow2', join(dir, 'top.qcow2'))
        if (depth === 1) {
          assertClean('qcow2', join(dir, name))
          const [only] = JSON.parse(must('qemu-img', 'map', '--output=json', join(dir, 'top.qcow2')))
          expect(only.depth).toBeGreaterThan(0)
          expect(statSync(join(dir, 'top.qcow2')).size).toBeLessThan(350 * KB)
        }
      }
    })
  })

  it('keeps snapshots of the image it empties', async () => {
    await inDirectory(async (dir) => {
      const next = random(seed + 1)
      chain(dir, 500 * KB, [{ name: 'top.qcow2', size: 500 * KB, options: 'cluster_size=4k' }], next)
      must('qemu-img', 'snapshot', '-c', 'one', join(dir, 'top.qcow2'))
      const then = seen(dir, 'top.qcow2')
      scribble(dir, { name: 'top.qcow2', size: 500 * KB, options: '' }, next)
      copyFileSync(join(dir, 'base.raw'), join(dir, 'old.raw'))
      const before = seen(dir, 'top.qcow2')
      const top = await open(dir, 'top.qcow2', { base: 1 })
      expect(await commit(top)).toMatchObject({ emptied: true })
      await top.close()
      expect(Buffer.compare(seen(dir, 'top.qcow2'), before)).toBe(0)
      assertClean('qcow2', join(dir, 'top.qcow2'))
      // The snapshot shows what it showed above what was beneath then.
      copyFileSync(join(dir, 'old.raw'), join(dir, 'base.raw'))
      must('qemu-img', 'snapshot', '-a', 'one', join(dir, 'top.qcow2'))
      expect(Buffer.compare(seen(dir, 'top.qcow2'), then)).toBe(0)
      assertClean('qcow2', join(dir, 'top.qcow2'))
    })
  })

  it('empties an image whose tables lie between and behind its data', async () => {
    await inDirectory(async (dir) => {
      const sizes = { size: 4 * 1024 * KB, options: 'cluster_size=512,refcount_bits=64' }
      chain(dir, 4 * 1024 * KB, [{ name: 'top', ...sizes }], random(61))
      // Rounds of growing: each moves the L1 table, and data follows. A block of refcounts counts 64 clusters here.
      for (let mib = 5; mib <= 9; mib++) {
        must('qemu-img', 'resize', '-q', '-f', 'qcow2', join(dir, 'top'), `${mib}M`)
        must('qemu-io', '-f', 'qcow2', '-c', `write -P ${mib} ${mib - 1}M 600k`, join(dir, 'top'))
      }
      const expected = seen(dir, 'top')
      const top = await open(dir, 'top', { base: 1 })
      try {
        expect(await commit(top)).toMatchObject({ emptied: true })
        assertClean('qcow2', join(dir, 'top'))
        expect(seen(dir, 'top').equals(expected)).toBe(true)
        // And goes on being written by the same session.
        await top.write?.(3 * 1024 * KB + 512, new Uint8Array(700 * KB).fill(0x77))
        await top.flush?.()
        expected.fill(0x77, 3 * 1024 * KB + 512, 3 * 1024 * KB + 512 + 700 * KB)
      } finally {
        await top.close()
      }
      assertClean('qcow2', join(dir, 'top'))
      expect(seen(dir, 'top').equals(expected)).toBe(true)
    })
  })

  it('does not empty an image with a table that lies where none can', async () => {
    await inDirectory(async (dir) => {
      const layer = { name: 'top', size: 4 * 1024 * KB, options: 'cluster_size=512' }
      chain(dir, 4 * 1024 * KB, [layer], random(62))
      const bytes = readFileSync(join(dir, 'top'))
      const l1 = Number(bytes.readBigUInt64BE(40))
      // The last entry: its part of the disk is not read while copying.
      const last = l1 + (bytes.readUInt32BE(36) - 1) * 8
      const top = await open(dir, 'top', { base: 1 })
      try {
        bytes.writeBigUInt64BE(0x8000000000000201n, last)
        writeFileSync(join(dir, 'top'), bytes)
        await expect(commit(top)).rejects.toMatchObject({ code: 'IMG_CORRUPT' })
      } finally {
        await top.close().catch(() => undefined)
      }
    })
  })

  it.each([
    ['cut in the last cluster of data', (bytes: Buffer) => bytes.subarray(0, -100)],
    ['cut before the last cluster of data', (bytes: Buffer) => bytes.subarray(0, -64 * KB)],
    [
      'with an L2 table outside',
      (bytes: Buffer) => {
        bytes.writeBigUInt64BE(0x8000_0001_0000_0000n, Number(bytes.readBigUInt64BE(40)) + 8)
        return bytes
      },
    ],
  ])('touches the base no more than a dry run does where the file is damaged: %s', async (_, damage) => {
    await inDirectory(async (dir) => {
      const [base, path] = [join(dir, 'base.qcow2'), join(dir, 'top.qcow2')]
      must('qemu-img', 'create', '-q', '-f', 'qcow2', base, '1M')
      must('qemu-img', 'create', '-q', '-f', 'qcow2', '-b', 'base.qcow2', '-F', 'qcow2', path, '1G')
      must('qemu-io', '-c', 'write -P 1 0 4M', '-c', 'write -P 2 600M 4M', path)
      writeFileSync(path, damage(readFileSync(path)))
      const before = readFileSync(base)
      const code = 'IMG_TRUNCATED'
      for (const dryRun of [true, false]) {
        const top = await open(dir, 'top.qcow2', { base: 1 })
        await expect(commit(top, { dryRun })).rejects.toMatchObject({ code })
        await top.close()
        expect(readFileSync(base).equals(before)).toBe(true)
      }
    })
  })

  it('refuses what is not in the chain, not writable, or has no backing file', async () => {
    await inDirectory(async (dir) => {
      chain(dir, 64 * KB, [{ name: 'top.qcow2', size: 64 * KB, options: 'compat=1.1' }], random(3))
      const top = await open(dir, 'top.qcow2')
      await expect(commit(top)).rejects.toMatchObject({ code: 'IMG_READ_ONLY' })
      await expect(commit(top, { base: top })).rejects.toMatchObject({ code: 'IMG_BAD_OPTION' })
      await top.close()
      const base = await open(dir, 'base.raw', { format: 'raw' })
      await expect(commit(base)).rejects.toThrow('Image does not have a backing file')
      await base.close()
    })
  })

  it('changes nothing the image shows where it is aborted', async () => {
    await inDirectory(async (dir) => {
      chain(dir, 900 * KB, [{ name: 'top.qcow2', size: 5000 * KB, options: 'compat=1.1' }], random(4))
      const before = seen(dir, 'top.qcow2')
      const top = await open(dir, 'top.qcow2', { base: 1 })
      const abort = new AbortController()
      const going = commit(top, { signal: abort.signal, onProgress: () => abort.abort(new Error('enough')) })
      await expect(going).rejects.toThrow('enough')
      await top.close()
      expect(Buffer.compare(seen(dir, 'top.qcow2'), before)).toBe(0)
      assertClean('qcow2', join(dir, 'top.qcow2'))
    })
  })
})

describe.skipIf(!hasQemu)('rebase (skipped without qemu-img)', () => {
  it.each(optionSets)('keeps the content above another backing file, or none: %s', async (options) => {
    await inDirectory(async (dir) => {
      const next = random(seed + 2)
      chain(dir, 600 * KB, [{ name: 'mid.qcow2', size: 900 * KB, options: optionSets[0] as string }], next)
      copyFileSync(join(dir, 'base.raw'), join(dir, 'other.raw'))
      const patch = patternDisk(200 * KB, 9)
      const other = readFileSync(join(dir, 'other.raw'))
      other.set(patch, 150 * KB)
      writeFileSync(join(dir, 'other.raw'), other.subarray(0, 500 * KB + 512))
      const top = { name: 'top.qcow2', size: 1000 * KB + 512, options }
      must(
        'qemu-img',
        'create',
        '-q',
        '-f',
        'qcow2',
        '-b',
        'mid.qcow2',
        '-F',
        'qcow2',
        '-o',
        options,
        join(dir, top.name),
        `${top.size}`,
      )
      scribble(dir, top, next)
      const before = seen(dir, 'top.qcow2')
      const ways = [
        { name: 'other.raw', format: 'raw' },
        undefined,
        { name: 'base.raw', format: 'raw' },
        { name: 'mid.qcow2', format: 'qcow2' },
      ] as const
      for (const reference of ways) {
        const image = await open(dir, 'top.qcow2')
        const backing =
          reference && (await open(dir, reference.name, { writable: false, format: reference.format }))
        await rebase(image, {
          reference: reference && { kind: 'backing', ...reference },
          backing,
        })
        await expect(image.read(0, new Uint8Array(1))).rejects.toMatchObject({ code: 'IMG_CLOSED' })
        await image.close()
        await backing?.close()
        const info = JSON.parse(must('qemu-img', 'info', '--output=json', join(dir, 'top.qcow2')))
        expect(info['backing-filename']).toBe(reference?.name)
        expect(info['backing-filename-format']).toBe(reference?.format)
        expect(Buffer.compare(seen(dir, 'top.qcow2'), before), `${reference?.name}, seed ${seed}`).toBe(0)
        assertClean('qcow2', join(dir, 'top.qcow2'))
        if (next() < 0.5) {
          must('qemu-img', 'rebase', '-b', 'other.raw', '-F', 'raw', join(dir, 'top.qcow2'))
          expect(Buffer.compare(seen(dir, 'top.qcow2'), before)).toBe(0)
        }
      }
    })
  })

  it('copies nothing where only a layer in between is left out that changed nothing', async () => {
    await inDirectory(async (dir) => {
      writeFileSync(join(dir, 'base.raw'), patternDisk(900 * KB, 7))
      must('qemu-img', 'create', '-q', '-f', 'qcow2', '-b', 'base.raw', '-F', 'raw', join(dir, 'mid.qcow2'))
      must('qemu-io', '-c', 'write -P 5 0 64k', join(dir, 'mid.qcow2'))
      must(
        'qemu-img',
        'create',
        '-q',
        '-f',
        'qcow2',
        '-b',
        'mid.qcow2',
        '-F',
        'qcow2',
        join(dir, 'top.qcow2'),
      )
      const before = seen(dir, 'top.qcow2')
      const top = await open(dir, 'top.qcow2')
      const backing = await open(dir, 'base.raw', { format: 'raw', writable: false })
      const reference = { kind: 'backing', name: 'base.raw', format: 'raw' } as const
      expect(await rebase(top, { reference, backing })).toEqual({ copied: 64 * KB })
      await top.close()
      await backing.close()
      expect(Buffer.compare(seen(dir, 'top.qcow2'), before)).toBe(0)
    })
  })

  it('only changes the name where it is told to, and needs no chain for it', async () => {
    await inDirectory(async (dir) => {
      must(
        'qemu-img',
        'create',
        '-q',
        '-f',
        'qcow2',
        '-u',
        '-b',
        'gone.raw',
        '-F',
        'raw',
        join(dir, 'top.qcow2'),
        '1M',
      )
      must('qemu-img', 'bitmap', '--add', '--disable', join(dir, 'top.qcow2'), 'kept')
      const name = `${'long'.repeat(200)}.raw`
      for (const reference of [name, 'short', 'raw', undefined]) {
        const top = await open(dir, 'top.qcow2', { chain: false })
        const backing = reference === undefined ? undefined : ({ kind: 'backing', name: reference } as const)
        await rebase(top, { reference: backing, unsafe: true })
        await top.close()
        const info = JSON.parse(must('qemu-img', 'info', '--output=json', join(dir, 'top.qcow2')))
        expect(info['backing-filename']).toBe(reference)
        expect(info['format-specific'].data.bitmaps).toHaveLength(1)
      }
      const top = await open(dir, 'top.qcow2', { chain: false })
      const reference = { kind: 'backing', name: 'x'.repeat(1024) } as const
      await expect(rebase(top, { reference, unsafe: true })).rejects.toMatchObject({ code: 'IMG_BAD_OPTION' })
      await top.close()
      assertClean('qcow2', join(dir, 'top.qcow2'))
    })
  })
})

describe.skipIf(!hasQemu)('power cuts (skipped without qemu-img)', () => {
  it.each(optionSets.slice(1, 4))('leave what the disk shows while it is rebased: %s', async (options) => {
    await inDirectory(async (dir) => {
      const next = random(seed + 5)
      const size = 700 * KB
      chain(dir, 500 * KB, [{ name: 'top.qcow2', size, options }], next)
      writeFileSync(join(dir, 'other.raw'), patternDisk(600 * KB, 11))
      const path = join(dir, 'top.qcow2')
      const before = seen(dir, 'top.qcow2')
      const storage = new PowerStorage(new Uint8Array(readFileSync(path)))
      const references = besides(dir)
      for (const name of ['other.raw', undefined, 'base.raw']) {
        const top = await openImage(storage, { registry, format: 'qcow2', writable: true, references })
        const backing =
          name === undefined ? undefined : await open(dir, name, { writable: false, format: 'raw' })
        const reference = name === undefined ? undefined : ({ kind: 'backing', name, format: 'raw' } as const)
        await rebase(top, { reference, backing })
        await top.close()
      }
      const barriers = storage.events.flatMap(({ kind }, at) => (kind === 'flush' && at > 2 ? [at] : []))
      for (let i = 0; i < 10; i++) {
        const at = (barriers[Math.floor(next() * barriers.length)] as number) - Math.floor(next() * 3)
        const share = next()
        const file = storage.after(at, () => next() < share)
        writeFileSync(path, file)
        const { status, stdout } = run('qemu-img', 'check', '-f', 'qcow2', path)
        const what = `seed ${seed}, cut at ${at} of ${storage.events.length}, ${share} survives`
        expect(status === 0 || status === 3, `${what}: qemu-img check ${status}\n${stdout}`).toBe(true)
        expect(Buffer.compare(seen(dir, 'top.qcow2'), before), what).toBe(0)
      }
    })
  })

  it.each(optionSets.slice(1, 4))('leave what the disk shows while it is committed: %s', async (options) => {
    await inDirectory(async (dir) => {
      const next = random(seed + 6)
      const size = 700 * KB
      chain(dir, 500 * KB, [{ name: 'top.qcow2', size, options }], next)
      const before = seen(dir, 'top.qcow2')
      const base = new PowerStorage(new Uint8Array(readFileSync(join(dir, 'base.raw'))))
      const top = new PowerStorage(new Uint8Array(readFileSync(join(dir, 'top.qcow2'))))
      const disk = await openImage(top, {
        registry,
        format: 'qcow2',
        writable: true,
        writableBacking: () => true,
        references: referencesFrom({ 'base.raw': base }),
      })
      await commit(disk, {
        // The image is touched only once the base has everything.
        onProgress: () => expect(top.events).toHaveLength(0),
      })
      await disk.close()
      const done = base.events.map(({ kind }) => kind).lastIndexOf('flush')
      expect(base.events.slice(done + 1)).toEqual([])
      const path = join(dir, 'top.qcow2')
      const cut = async (
        storage: PowerStorage,
        name: string,
        other: Uint8Array,
        otherName: string,
      ): Promise<void> => {
        for (let i = 0; i < 5; i++) {
          const at = Math.floor(next() * (storage.events.length + 1))
          const share = next()
          writeFileSync(
            join(dir, name),
            storage.after(at, () => next() < share),
          )
          writeFileSync(join(dir, otherName), other)
          const { status } = run('qemu-img', 'check', '-f', 'qcow2', path)
          expect(status === 0 || status === 3).toBe(true)
          expect(Buffer.compare(seen(dir, 'top.qcow2'), before), `${name} cut at ${at}`).toBe(0)
        }
      }
      await cut(
        base,
        'base.raw',
        top.after(0, () => true),
        'top.qcow2',
      )
      await cut(top, 'top.qcow2', base.content(), 'base.raw')
    })
  })
})
