import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openImage, registerFormat } from '@img/core'
import { nodeReferences, openFile, openFileStorage } from '@img/node'
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
  /** What the files show that can be backing files, by name. @type {Map<string, Uint8Array>} */
  files = new Map()
  /** The one that is. @type {string | undefined} */
  backing
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

  get hasBacking() {
    return this.backing !== undefined
  }

  /** Whether the format lets the image have internal snapshots. */
  get mayHaveSnapshots() {
    return this.case.data === 'inside'
  }

  /**
   * Opens the image for writing, unless it is open.
   * @param {number} [delay] seed of delays; none without it
   * @param {number} [deep] the layer of the chain that is to be written too
   */
  async open(delay, deep) {
    if (this.disk === undefined) {
      const file = await openFileStorage(this.path, { writable: true })
      this.disk = await openImage(delay === undefined ? file : delayed(file, delay), {
        format: 'qcow2',
        writable: true,
        writableBacking: ({ depth }) => depth === deep,
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

  /** Opens a file that can be a backing file. @param {string} name */
  openBelow(name) {
    return openFile(join(this.dir, name), { format: name.endsWith('.raw') ? 'raw' : 'qcow2' })
  }

  /** The image has another backing file. @param {string | undefined} name */
  rebased(name) {
    this.backing = name
    const shown = this.files.get(name) ?? new Uint8Array(0)
    this.below = new Uint8Array(Math.max(this.size, shown.length))
    this.below.set(shown)
  }

  /** What the image holds was written into a file below. @param {string} name */
  committed(name) {
    const old = this.files.get(name)
    const shown = new Uint8Array(Math.max(this.size, old.length))
    shown.set(old)
    shown.set(this.content)
    this.files.set(name, shown)
    if (name === 'base.raw' && this.files.has('middle.qcow2')) {
      // What shows through is for QEMU to tell.
      const copy = join(this.dir, 'middle.raw')
      must('qemu-img', ['convert', '-U', '-f', 'qcow2', '-O', 'raw', join(this.dir, 'middle.qcow2'), copy])
      this.files.set('middle.qcow2', new Uint8Array(readFileSync(copy)))
    }
    this.rebased(this.backing)
  }

  /** The image may be of another version. @param {import('@img/core').ImageInfo} info */
  refreshOptions({ specific }) {
    this.version = specific.compat === '0.10' ? 2 : 3
    this.refcountBits = specific['refcount-bits']
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
      this.content = this.below.slice(0, size)
      must('qemu-img', ['create', '-q', '-f', 'qcow2', ...made, ...below, this.path, String(size)])
    }
  }

  /** Makes what can be backing files, and chooses. @param {'raw' | 'chain'} kind @returns {string[]} options that name it */
  #createBelow(kind) {
    const { size, seed } = this.case
    // Shorter than the disk, and longer, and no multiple of a cluster.
    const base = contentOf(size - 5 * 512, seed + 1)
    const other = contentOf(size + 7 * 512, seed + 2)
    writeFileSync(join(this.dir, 'base.raw'), base)
    writeFileSync(join(this.dir, 'other.raw'), other)
    this.files.set('base.raw', base)
    this.files.set('other.raw', other)
    if (kind === 'chain') {
      const middle = join(this.dir, 'middle.qcow2')
      must('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', 'base.raw', '-F', 'raw', middle])
      const length = 512 * Math.floor(base.length / 2048)
      const writes = ['-c', `write -P 77 0 ${length}`, '-c', `write -z ${2 * length} 65536`]
      must('qemu-io', ['-f', 'qcow2', ...writes, middle])
      this.files.set(
        'middle.qcow2',
        base
          .slice()
          .fill(77, 0, length)
          .fill(0, 2 * length, 2 * length + 65536),
      )
    }
    const name = kind === 'chain' ? 'middle.qcow2' : 'base.raw'
    this.rebased(name)
    return ['-b', name, '-F', kind === 'chain' ? 'qcow2' : 'raw']
  }
}
