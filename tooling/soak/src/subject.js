import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openImage, registerFormat } from '@img/core'
import { nodeReferences, openFile, openFileStorage } from '@img/node'
import { qcow2 } from '@img/qcow2/format'
import { raw } from '@img/raw/format'
import { BitmapModel } from './bitmap-model.js'
import { delayed } from './delayed.js'
import { must } from './tools.js'

registerFormat(qcow2)
registerFormat(raw)

/** What opens the encrypted images. */
export const PASSPHRASE = 'soak and rinse'

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
  /** Persistent bitmaps, by name. @type {Map<string, BitmapModel>} */
  bitmaps = new Map()
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
    for (const model of this.bitmaps.values()) model.resized(size)
    this.#widenBelow()
  }

  /** What a bitmap marks. @param {string} name */
  async dirty(name) {
    const ranges = []
    for await (const range of (await this.open()).bitmaps.dirty(name)) ranges.push(range)
    return ranges
  }

  /** A bitmap was changed. @param {string} verb @param {string} name */
  bitmapChanged(verb, name, { granularity, disabled, merged }) {
    const model = this.bitmaps.get(name)
    if (verb === 'add')
      this.bitmaps.set(name, new BitmapModel(granularity, disabled ? undefined : this.content))
    else if (verb === 'remove') this.bitmaps.delete(name)
    else if (verb === 'merge') model.mark(merged)
    else model[verb](this.content)
  }

  /** The disk is what a snapshot was. @param {Uint8Array} content */
  reverted(content) {
    this.content = content.slice()
    for (const model of this.bitmaps.values()) model.resized(this.size)
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
}
