import { ByteQueue, type ReadStreamOptions, type StreamPiece, type StreamReader } from '@img/core'
import { chooseDisk } from './choose-disk.js'
import { type Descriptor, type OvfDisk, type OvfFile, parseDescriptor } from './descriptor.js'
import { createHasher, type Hasher } from './digest.js'
import { corrupt, ovaError } from './errors.js'
import { isUrl, stemOf } from './file-name.js'
import { checkCapacity, formatOf } from './inside.js'
import { MAX_DESCRIPTOR_BYTES, MAX_MANIFEST_BYTES } from './limits.js'
import { type Digest, type DigestName, parseManifest } from './manifest.js'
import { type OpenOptionValues, openDefaults } from './options.js'
import { missing, notListed } from './package.js'
import { namesOf } from './package-files.js'
import { endsInside, type TarMember, type TarSource, walkTar } from './tar-members.js'

/** Bytes taken at a time. */
const STEP: number = 1024 * 1024
const algorithms: readonly DigestName[] = ['SHA1', 'SHA256', 'SHA384', 'SHA512']

/**
 * Reads a disk of an archive that comes through a pipe: its image must be one that can be read so. Digests are computed while
 * the bytes go by, and compared when the archive has ended: until then nothing that was read is to be relied on.
 * @throws {ImageError} IMG_UNSUPPORTED where the descriptor does not come first, or the disk is stored in a way that needs a file;
 * as `openOva` for the rest.
 */
export async function readOvaStream(
  input: AsyncIterable<Uint8Array>,
  options: ReadStreamOptions,
): Promise<StreamReader> {
  const archive = new Archive(input, options)
  const { disk, member } = await archive.findDisk()
  const { label, streamInside } = options
  if (member === undefined) {
    const size = disk.capacity
    if (size === undefined) throw corrupt(`the capacity of disk ${disk.id} has no value`, label)
    return { size, pieces: () => emptyDisk(archive), finalSize: () => size }
  }
  const format = formatOf(disk)
  if (streamInside === undefined || format === undefined) throw needsFile('a disk of its format', label)
  const bytes = archive.bytesOf(member)
  // Its reader may stop before the end: what is left is wanted here.
  const part = { [Symbol.asyncIterator]: () => ({ next: () => bytes.next() }) }
  const inner = await streamInside(format, part)
  if (inner.size !== undefined) checkCapacity(disk, inner.size, label)
  return {
    size: inner.size,
    finalSize: () => inner.finalSize(),
    async *pieces(): AsyncGenerator<StreamPiece> {
      yield* inner.pieces()
      // What its reader had no use for belongs to the file all the same.
      for (let next = await bytes.next(); next.done !== true; next = await bytes.next());
      checkCapacity(disk, inner.finalSize(), label)
      await archive.finish()
    },
  }
}

async function* emptyDisk(archive: Archive): AsyncGenerator<StreamPiece> {
  await archive.finish()
  yield* []
}

/** An archive that is read front to back, with the digests of what went by. */
class Archive {
  readonly #label: string
  readonly #options: ReadStreamOptions
  readonly #values: OpenOptionValues
  readonly #queue: ByteQueue
  readonly #members: AsyncGenerator<TarMember>
  readonly #names = new Set<string>()
  readonly #digests = new Map<string, Map<DigestName, string>>()
  readonly #manifests = new Map<string, ReadonlyMap<string, Digest>>()
  #descriptor: Descriptor | undefined
  #descriptorName = ''

  constructor(input: AsyncIterable<Uint8Array>, options: ReadStreamOptions) {
    const { label, signal } = options
    this.#label = label
    this.#options = options
    this.#values = { ...openDefaults, ...options.options } as OpenOptionValues
    const queue = new ByteQueue(input, signal)
    this.#queue = queue
    const reaches = async (offset: number): Promise<boolean> => {
      const way = Math.max(0, offset - queue.position)
      return (await queue.skip(way)) === way
    }
    const source: TarSource = {
      label,
      reaches,
      read: async (offset, length) =>
        (await reaches(offset)) ? (await queue.take(length)).slice() : new Uint8Array(0),
    }
    this.#members = walkTar(source)
  }

  /** Reads up to the disk that is meant; without `member` it is empty. */
  async findDisk(): Promise<{ readonly disk: OvfDisk; readonly member?: TarMember }> {
    let chosen: OvfDisk | undefined
    let wanted: readonly string[] = []
    for (let next = await this.#members.next(); next.done !== true; next = await this.#members.next()) {
      const member = next.value
      if (await this.#metadata(member)) {
        if (chosen !== undefined || this.#descriptor === undefined) continue
        chosen = this.#choose(this.#descriptor)
        if (chosen.file === undefined) return { disk: chosen }
        wanted = storedNames(chosen, chosen.file, this.#label)
      } else if (chosen === undefined) {
        if (!isAside(member.name)) throw needsFile('a descriptor that does not come first', this.#label)
      } else if (wanted.includes(member.name)) {
        const { size } = chosen.file ?? {}
        if (size !== undefined && size !== member.size) throw wrongSize(member, size, this.#label)
        return { disk: chosen, member }
      } else await this.#passOver(member)
    }
    const [name] = wanted
    if (name === undefined) throw corrupt('the archive holds no OVF descriptor', this.#label)
    throw missing(name, this.#label)
  }

  /** The bytes of a member, digested on the way. */
  async *bytesOf({ name, size }: TarMember): AsyncGenerator<Uint8Array, void, undefined> {
    const known = this.#manifest()?.get(name)?.algorithm
    const kinds = this.#values.verify === 'off' ? [] : known === undefined ? algorithms : [known]
    const hashers: (readonly [DigestName, Hasher])[] = []
    for (const kind of kinds) hashers.push([kind, await createHasher(kind)])
    for (let left = size; left > 0; ) {
      const bytes = await this.#queue.take(Math.min(left, STEP))
      if (bytes.length === 0) throw endsInside(name, this.#label, this.#queue.position)
      for (const [, hasher] of hashers) hasher.update(bytes)
      left -= bytes.length
      yield bytes
    }
    this.#names.add(name)
    this.#digests.set(name, new Map(hashers.map(([kind, hasher]) => [kind, hasher.digest()])))
  }

  /** Reads what is left of the archive, and compares all with the manifest. */
  async finish(): Promise<void> {
    for (let next = await this.#members.next(); next.done !== true; next = await this.#members.next()) {
      if (!(await this.#metadata(next.value))) await this.#passOver(next.value)
    }
    // Zeros fill up an archive; whoever writes them is not to find the pipe closed, and may fail there too.
    while ((await this.#queue.skip(STEP)) > 0);
    this.#compare()
  }

  #choose(descriptor: Descriptor): OvfDisk {
    const found = chooseDisk(descriptor.disks, this.#values.disk, this.#label)
    if (!('disk' in found)) throw found.fault
    const { disk, guessed } = found
    if (guessed) {
      this.#options.warn?.(
        `${this.#label}: disk ${disk.number} is taken, the only one that is not empty`,
        'WARN_CHOSEN',
      )
    }
    return disk
  }

  /** Reads a descriptor or a manifest; false for another member. */
  async #metadata(member: TarMember): Promise<boolean> {
    const { name } = member
    if (isAside(name)) return false
    if (/\.ovf$/i.test(name)) {
      if (this.#descriptor !== undefined)
        throw corrupt('the archive holds several OVF descriptors', this.#label)
      this.#descriptor = parseDescriptor(
        await this.#whole(member, MAX_DESCRIPTOR_BYTES),
        `${this.#label}/${name}`,
      )
      this.#descriptorName = name
      return true
    }
    if (/\.mf$/i.test(name) && this.#values.verify !== 'off') {
      this.#manifests.set(
        name,
        parseManifest(await this.#whole(member, MAX_MANIFEST_BYTES), `${this.#label}: ${name}`),
      )
      return true
    }
    return false
  }

  async #whole(member: TarMember, limit: number): Promise<Uint8Array> {
    if (member.size > limit) throw corrupt(`${member.name} has more than ${limit} bytes`, this.#label)
    const bytes = new Uint8Array(member.size)
    let at = 0
    for await (const part of this.bytesOf(member)) {
      bytes.set(part, at)
      at += part.length
    }
    return bytes
  }

  async #passOver(member: TarMember): Promise<void> {
    this.#names.add(member.name)
    const file = this.#descriptor?.files.find(({ href }) => href === member.name)
    if (file?.size !== undefined && file.chunkSize === undefined && file.size !== member.size) {
      throw wrongSize(member, file.size, this.#label)
    }
    if (this.#values.verify !== 'all') return
    for await (const part of this.bytesOf(member)) void part
  }

  #manifest(): ReadonlyMap<string, Digest> | undefined {
    const names = [...this.#manifests.keys()]
    const own = names.find((name) => stemOf(name) === stemOf(this.#descriptorName))
    return this.#manifests.get(own ?? (names.length === 1 ? (names[0] ?? '') : ''))
  }

  #compare(): void {
    const label = this.#label
    const { files = [], disks = [] } = this.#descriptor ?? {}
    const manifest = this.#manifest()
    for (const file of files) {
      if (isUrl(file.href) || file.chunkSize !== undefined) continue
      const name = namesOf(file.href, label).find((each) => this.#names.has(each))
      if (name === undefined && disks.some((disk) => disk.file === file)) throw missing(file.href, label)
      if (name !== undefined && manifest?.has(name) === false) throw notListed(name, label)
    }
    if (manifest?.has(this.#descriptorName) === false) throw notListed(this.#descriptorName, label)
    for (const [name, { algorithm, hex }] of manifest ?? []) {
      if (!this.#names.has(name)) {
        throw corrupt(`the manifest tells of ${JSON.stringify(name)}, which is not there`, label)
      }
      const found = this.#digests.get(name)?.get(algorithm)
      if (found !== undefined && found !== hex) {
        throw corrupt(
          `the ${algorithm} digest of ${JSON.stringify(name)} is not the one in the manifest`,
          label,
        )
      }
    }
  }
}

/** What comes with an archive and is none of the package: attributes of macOS, certificates. */
function isAside(name: string): boolean {
  return /(^|\/)\._[^/]*$/.test(name) || /\.cert$/i.test(name)
}

function storedNames(disk: OvfDisk, file: OvfFile, label: string): readonly string[] {
  if (disk.parent !== undefined) {
    throw ovaError('IMG_UNSUPPORTED', `disk ${disk.id} is a delta over the disk ${disk.parent}`, label)
  }
  if (file.chunkSize !== undefined) throw needsFile('a disk in chunks', label)
  if (file.compression !== 'identity') throw needsFile('a disk that was compressed whole', label)
  return namesOf(file.href, label)
}

function needsFile(what: string, label: string): Error {
  const hint = 'store the archive in a file first'
  return ovaError('IMG_UNSUPPORTED', `${what} cannot be read from a pipe`, label, undefined, hint)
}

function wrongSize({ name, size }: TarMember, told: number, label: string): Error {
  return corrupt(`${JSON.stringify(name)} has ${size} bytes, and ${told} by the descriptor`, label)
}
