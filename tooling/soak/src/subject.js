import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openImage, registerFormat } from '@img/core'
import { nodeReferences, openFileStorage } from '@img/node'
import { qcow2 } from '@img/qcow2/format'
import { raw } from '@img/raw/format'
import { delayed } from './delayed.js'
import { contentOf } from './random.js'
import { must } from './tools.js'

registerFormat(qcow2)
registerFormat(raw)

/** What opens the encrypted images. */
const PASSPHRASE = 'soak and rinse'

/** The image that is changed, the files beside it, and the model: what each of them has to show. */
export class Subject {
  /** What the disk shows. @type {Uint8Array} */
  content
  /** What the backing file shows, zeros beyond its end; at least as long as the disk. @type {Uint8Array} */
  below
  /** What the raw image at the end of the chain shows; empty without one. @type {Uint8Array} */
  base = new Uint8Array(0)
  /** Internal snapshots, by name. @type {Map<string, Uint8Array>} */
  snapshots = new Map()
  /** @type {import('@img/core').DiskImage | undefined} */
  disk
  /** Compressed clusters share host clusters, which takes larger refcounts. */
  compressed = false

  /** @param {import('./cases.js').Case} image */
  constructor(image) {
    this.case = image
    this.dir = mkdtempSync(join(tmpdir(), 'img-soak-'))
    this.path = join(this.dir, 'disk.qcow2')
    this.clusterSize = 2 ** image.clusterBits
    this.refcountBits = image.refcountBits
    this.version = image.compat === '1.1' ? 3 : 2
    this.hasBacking = image.backing !== 'none'
    this.content = new Uint8Array(image.size)
    this.below = new Uint8Array(image.size)
    try {
      this.#create()
    } catch (error) {
      this.remove()
      throw error
    }
  }

  get size() {
    return this.content.length
  }

  /** Whether the format lets the image have internal snapshots. */
  get mayHaveSnapshots() {
    return this.case.data === 'inside'
  }

  /** Opens the image for writing, unless it is open. @param {number} [delay] seed of delays; none without it */
  async open(delay) {
    if (this.disk === undefined) {
      const file = await openFileStorage(this.path, { writable: true })
      this.disk = await openImage(delay === undefined ? file : delayed(file, delay), {
        format: 'qcow2',
        writable: true,
        references: nodeReferences(),
        secret: () => new TextEncoder().encode(PASSPHRASE),
      })
    }
    return this.disk
  }

  async close() {
    const { disk } = this
    this.disk = undefined
    await disk?.close()
  }

  /** Sets the size of the model. @param {number} size */
  resized(size) {
    const content = new Uint8Array(size)
    content.set(this.content.subarray(0, size))
    this.content = content
    this.#widenBelow()
  }

  /** The disk is what a snapshot was. @param {Uint8Array} content */
  reverted(content) {
    this.content = content.slice()
    this.#widenBelow()
  }

  /** The part of a range that consists of whole clusters, as discard takes it. @param {number} offset @param {number} length */
  whole(offset, length) {
    const { clusterSize, size } = this
    const start = Math.ceil(offset / clusterSize) * clusterSize
    const end = offset + length
    return { start, end: end === size ? end : Math.floor(end / clusterSize) * clusterSize }
  }

  /** How the tools of QEMU are told of the image. @param {...string} options of the verb, which come first */
  qemuArgs(...options) {
    if (this.case.encryption === 'none') return [...options, '-f', 'qcow2', this.path]
    return [...this.secretArgs, ...options, '--image-opts', this.imageOpts]
  }

  get secretArgs() {
    return this.case.encryption === 'none' ? [] : ['--object', `secret,id=soak,data=${PASSPHRASE}`]
  }

  get imageOpts() {
    const key = this.case.encryption === 'none' ? '' : ',encrypt.key-secret=soak'
    return `driver=qcow2,file.driver=file,file.filename=${this.path}${key}`
  }

  remove() {
    rmSync(this.dir, { recursive: true, force: true })
  }

  #widenBelow() {
    if (this.size <= this.below.length) return
    const below = new Uint8Array(this.size)
    below.set(this.below)
    this.below = below
  }

  #create() {
    const {
      compat,
      refcountBits,
      extended,
      lazy,
      compression,
      backing,
      data,
      start,
      size,
      seed,
      encryption,
    } = this.case
    const options = [`cluster_size=${this.clusterSize}`, `compat=${compat}`]
    if (refcountBits !== 16) options.push(`refcount_bits=${refcountBits}`)
    if (extended) options.push('extended_l2=on')
    if (lazy) options.push('lazy_refcounts=on')
    if (compression === 'zstd') options.push('compression_type=zstd')
    if (data !== 'inside') options.push(`data_file=${join(this.dir, 'data.raw')}`)
    if (data === 'raw') options.push('data_file_raw=on')
    if (start === 'metadata') options.push('preallocation=metadata')
    if (encryption !== 'none') options.push(`encrypt.format=${encryption}`, 'encrypt.key-secret=soak')
    if (encryption === 'luks') options.push('encrypt.iter-time=10')
    const below = backing === 'none' ? [] : this.#createBelow(backing)
    const made = [...this.secretArgs, '-o', options.join(',')]
    if (start === 'compressed') {
      this.compressed = true
      this.content = contentOf(size, seed)
      const plain = join(this.dir, 'start.raw')
      writeFileSync(plain, this.content)
      // With -B: what is the same below is not written.
      must('qemu-img', [
        'convert',
        '-c',
        '-f',
        'raw',
        '-O',
        'qcow2',
        ...made,
        ...below.map((arg) => (arg === '-b' ? '-B' : arg)),
        plain,
        this.path,
      ])
    } else {
      this.content = this.below.slice()
      must('qemu-img', ['create', '-q', '-f', 'qcow2', ...made, ...below, this.path, String(size)])
    }
  }

  /** The image's backing file. @param {'raw' | 'chain'} kind @returns {string[]} options of qemu-img that name it */
  #createBelow(kind) {
    const { size, seed } = this.case
    // Shorter than the disk, and no multiple of a cluster.
    this.base = contentOf(size - 5 * 512, seed + 1)
    writeFileSync(join(this.dir, 'base.raw'), this.base)
    this.below.set(this.base)
    if (kind === 'raw') return ['-b', 'base.raw', '-F', 'raw']
    const middle = join(this.dir, 'middle.qcow2')
    must('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', 'base.raw', '-F', 'raw', middle])
    const length = 512 * Math.floor(this.base.length / 2048)
    must('qemu-io', [
      '-f',
      'qcow2',
      '-c',
      `write -P 77 0 ${length}`,
      '-c',
      `write -z ${2 * length} 65536`,
      middle,
    ])
    this.below.fill(77, 0, length)
    this.below.fill(0, 2 * length, 2 * length + 65536)
    return ['-b', 'middle.qcow2', '-F', 'qcow2']
  }
}
