import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type DiskImage, openImage, type ReferenceResolver } from '@img/core'
import { content, patternDisk, random } from '@tooling/test-disks/disks'
import { assertClean, must } from '@tooling/test-disks/qemu'
import { FileStorage } from '@tooling/test-disks/storage'
import { registry } from './disks.js'

/** An image to be changed at random. */
export interface WriteCase {
  readonly title: string
  /** `-o` of `qemu-img create`. */
  readonly options: string
  readonly size: number
  readonly backing?: boolean
  readonly compressed?: boolean
  readonly dataFile?: boolean
  /** No internal snapshots: their refcounts do not fit, or there is a data file. */
  readonly noSnapshots?: boolean
}

/** Opens files beside the image. */
export function besides(dir: string): ReferenceResolver {
  return {
    async open(reference, _from, { writable }) {
      return { storage: new FileStorage(join(dir, reference.name), { flags: writable ? 'r+' : 'r' }) }
    },
  }
}

/** An image under random changes by this library and by qemu-io, beside a model in memory. */
export class WriteRun {
  readonly dir: string
  readonly path: string
  readonly next: () => number
  readonly clusterSize: number
  readonly #case: WriteCase
  readonly #v2: boolean
  /** What the backing file shows, zeros without one. */
  #backing: Uint8Array
  model: Uint8Array
  readonly snapshots = new Map<string, Uint8Array>()
  readonly log: string[] = []
  disk: DiskImage | undefined

  constructor(testCase: WriteCase, seed: number) {
    this.#case = testCase
    this.next = random(seed)
    for (let i = 0; i < 5; i++) this.next()
    this.dir = mkdtempSync(join(tmpdir(), 'qcow2-write-'))
    this.path = join(this.dir, 'disk.qcow2')
    this.#v2 = testCase.options.includes('compat=0.10')
    const { size } = testCase
    this.#backing = new Uint8Array(size)
    this.model = new Uint8Array(size)
    let { options } = testCase
    const create = ['create', '-q', '-f', 'qcow2']
    if (testCase.backing === true) {
      // Shorter than the disk, and no multiple of a cluster.
      const base = patternDisk(size - 5 * 512, seed)
      writeFileSync(join(this.dir, 'base.raw'), base)
      this.#backing.set(base)
      this.model.set(base)
      create.push('-b', 'base.raw', '-F', 'raw')
    }
    if (testCase.dataFile === true) options += `,data_file=${join(this.dir, 'data.raw')}`
    if (testCase.compressed === true) {
      this.model.set(patternDisk(size, seed))
      writeFileSync(join(this.dir, 'start.raw'), this.model)
      must(
        'qemu-img',
        'convert',
        '-c',
        '-f',
        'raw',
        '-O',
        'qcow2',
        '-o',
        options,
        join(this.dir, 'start.raw'),
        this.path,
      )
    } else must('qemu-img', ...create, '-o', options, this.path, `${size}`)
    const size2 = /cluster_size=(\d+)(k|M)?/.exec(options)
    this.clusterSize =
      Number(size2?.[1] ?? 64) * { k: 1024, M: 1048576, '': 1 }[size2 ? (size2[2] ?? '') : 'k']!
  }

  async open(): Promise<DiskImage> {
    this.disk ??= await openImage(new FileStorage(this.path, { flags: 'r+' }), {
      registry,
      format: 'qcow2',
      writable: true,
      references: this.#case.dataFile === true ? absolute : besides(this.dir),
    })
    return this.disk
  }

  async close(): Promise<void> {
    await this.disk?.close()
    this.disk = undefined
  }

  /** A random range of the disk, short ones and ones at clusters' edges more often. */
  range(): { offset: number; length: number } {
    const { size } = this
    const pick = this.next()
    const unit = pick < 0.3 ? 1 : pick < 0.7 ? 512 : this.clusterSize
    const longest = this.next() < 0.5 ? 3 * unit : Math.min(size / 3, 40 * this.clusterSize)
    const offset = Math.min(size - 1, Math.floor((this.next() * size) / unit) * unit)
    const length = Math.max(1, Math.floor((this.next() * longest) / unit) * unit)
    return { offset, length: Math.min(length, size - offset) }
  }

  get size(): number {
    return this.model.length
  }

  /** Refcounts of 2 bits go to 3, and applying one counts both what the disk was and what it becomes. */
  get #mostSnapshots(): number {
    return this.#case.options.includes('refcount_bits=2') ? 1 : 2
  }

  async write(): Promise<void> {
    const { offset, length } = this.range()
    const bytes = new Uint8Array(length)
    for (let i = 0; i < length; i++) bytes[i] = this.next() < 0.02 ? 0 : 1 + ((i * 7 + this.log.length) % 251)
    this.log.push(`write ${offset} ${length}`)
    await (await this.open()).write?.(offset, bytes)
    this.model.set(bytes, offset)
  }

  async writeZeroes(): Promise<void> {
    const { offset, length } = this.range()
    const unmap = this.next() < 0.6
    this.log.push(`writeZeroes ${offset} ${length} unmap=${unmap}`)
    await (await this.open()).writeZeroes?.(offset, length, { unmap })
    this.model.fill(0, offset, offset + length)
  }

  async discard(): Promise<void> {
    const { offset, length } = this.range()
    this.log.push(`discard ${offset} ${length}`)
    await (await this.open()).discard?.(offset, length)
    const { clusterSize } = this
    const start = Math.ceil(offset / clusterSize) * clusterSize
    const end =
      offset + length === this.size ? this.size : Math.floor((offset + length) / clusterSize) * clusterSize
    if (start >= end) return
    // Version 2 cannot say zero: what is below shows again.
    if (this.#v2) this.model.set(this.#backing.subarray(start, end), start)
    else this.model.fill(0, start, end)
  }

  async qemuWrite(): Promise<void> {
    await this.close()
    const offset = Math.floor((this.next() * this.size) / 512) * 512
    const length = Math.min(this.size - offset, 512 * (1 + Math.floor(this.next() * 300)))
    const byte = 1 + Math.floor(this.next() * 255)
    const zero = this.next() < 0.2
    this.log.push(`qemu-io write ${offset} ${length} ${zero ? 'zero' : byte}`)
    must('qemu-io', '-f', 'qcow2', '-c', `write ${zero ? '-z' : `-P ${byte}`} ${offset} ${length}`, this.path)
    this.model.fill(zero ? 0 : byte, offset, offset + length)
  }

  /** Makes the disk larger or smaller, here or by qemu-img. */
  async resize(): Promise<void> {
    if (this.#v2 && this.snapshots.size > 0) return
    const size = 512 * Math.ceil(((0.5 + this.next()) * this.#case.size) / 512)
    const shrink = size < this.size
    // Growing by qemu-img shows again what a cut cluster held behind the old end.
    const byQemu = this.next() < 0.3 && (shrink || this.size % this.clusterSize === 0)
    this.log.push(`resize ${size}${byQemu ? ' by qemu-img' : ''}`)
    if (byQemu) {
      await this.close()
      must('qemu-img', 'resize', '-q', '-f', 'qcow2', ...(shrink ? ['--shrink'] : []), this.path, `${size}`)
    } else {
      const preallocation = !shrink && this.next() < 0.4 ? 'metadata' : undefined
      await (await this.open()).resize?.(size, { shrink, preallocation })
    }
    const model = new Uint8Array(size)
    model.set(this.model.subarray(0, size))
    this.model = model
    if (size <= this.#backing.length) return
    const backing = new Uint8Array(size)
    backing.set(this.#backing)
    this.#backing = backing
  }

  /** Takes, applies or deletes an internal snapshot, here or by qemu-img. */
  async snapshot(): Promise<void> {
    if (this.#case.noSnapshots === true) return
    const names = [...this.snapshots.keys()]
    const name = names[Math.floor(this.next() * names.length)]
    const pick = this.next()
    const byQemu = this.next() < 0.4
    const [verb, flag] =
      name === undefined || (pick < 0.4 && names.length < this.#mostSnapshots)
        ? (['create', '-c'] as const)
        : pick < 0.7
          ? (['apply', '-a'] as const)
          : (['delete', '-d'] as const)
    const target = verb === 'create' ? `s${this.log.length}` : (name as string)
    this.log.push(`snapshot ${verb} ${target}${byQemu ? ' by qemu-img' : ''}`)
    if (byQemu) {
      await this.close()
      must('qemu-img', 'snapshot', flag, target, this.path)
    } else {
      await (await this.open()).snapshots?.[verb]?.(target)
    }
    if (verb === 'create') this.snapshots.set(target, this.model.slice())
    else if (verb === 'delete') this.snapshots.delete(target)
    else this.model = (this.snapshots.get(target) as Uint8Array).slice()
  }

  /** Compares with the model, here, as qemu-img sees it, and by its check. */
  async judge(): Promise<void> {
    this.compare(await content(await this.open()), 'disk')
    for (const [name, expected] of this.snapshots) {
      const snapshot = await (await this.open()).snapshots?.open(name)
      if (snapshot === undefined) throw new Error('there are no snapshots')
      this.compare(await content(snapshot), `snapshot ${name}`, expected)
      await snapshot.close()
    }
    await this.close()
    assertClean('qcow2', this.path)
    if (this.#case.options.includes('data_file_raw')) {
      this.compare(new Uint8Array(readFileSync(join(this.dir, 'data.raw'))), 'raw data file')
    }
    const raw = join(this.dir, 'model.raw')
    writeFileSync(raw, this.model)
    must('qemu-img', 'compare', '-f', 'raw', '-F', 'qcow2', raw, this.path)
  }

  compare(found: Uint8Array, what: string, expected: Uint8Array = this.model): void {
    if (Buffer.compare(found, expected) === 0) return
    const at = found.findIndex((byte, i) => byte !== expected[i])
    throw new Error(`${what} differs from the model at ${at} (sizes ${found.length} and ${expected.length})`)
  }

  remove(): void {
    rmSync(this.dir, { recursive: true, force: true })
  }
}

const absolute: ReferenceResolver = {
  async open(reference) {
    return { storage: new FileStorage(reference.name, { flags: 'r+' }) }
  },
}
