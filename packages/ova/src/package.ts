import { ImageError, type OpenContext, type Storage } from '@img/core'
import { type Descriptor, type OvfFile, parseDescriptor } from './descriptor.js'
import { digestOf } from './digest.js'
import { corrupt, ovaError } from './errors.js'
import { isUrl } from './file-name.js'
import { MAX_DESCRIPTOR_BYTES, MAX_MANIFEST_BYTES, MAX_MEMBERS } from './limits.js'
import { type Digest, parseManifest } from './manifest.js'
import { archiveFiles, folderFiles, namesOf, type PackageFiles } from './package-files.js'
import { looksLikeTar, RECORD } from './tar-header.js'

/** A part of a file of a package: the whole of it, unless it is stored in chunks. */
export interface StoredPart {
  readonly name: string
  readonly storage: Storage
}

/** An opened package. */
export class Package {
  readonly label: string
  readonly files: PackageFiles
  readonly descriptor: Descriptor
  /** Digests by file name; undefined without a manifest. */
  readonly manifest: ReadonlyMap<string, Digest> | undefined
  /** Files whose digests were computed, and are right. */
  readonly verified: Set<string> = new Set<string>()
  readonly #context: OpenContext

  constructor(
    files: PackageFiles,
    descriptor: Descriptor,
    manifest: ReadonlyMap<string, Digest> | undefined,
    context: OpenContext,
  ) {
    this.label = files.label
    this.files = files
    this.descriptor = descriptor
    this.manifest = manifest
    this.#context = context
  }

  /**
   * Opens the parts of a file, and compares their sizes with what the descriptor says. The caller closes them. Undefined where
   * the file is not there.
   * @throws {ImageError} IMG_CORRUPT, IMG_REFERENCE_DENIED.
   */
  async open(file: OvfFile): Promise<readonly StoredPart[] | undefined> {
    for (const name of namesOf(file.href, this.label)) {
      const parts =
        file.chunkSize === undefined ? await this.#openOne(name) : await this.#openChunks(name, file)
      if (parts.length === 0) continue
      const size = parts.reduce((sum, { storage }) => sum + storage.size, 0)
      if (file.size === undefined || file.size === size) return parts
      await closeParts(parts)
      throw corrupt(
        `${JSON.stringify(name)} has ${size} bytes, and ${file.size} by the descriptor`,
        this.label,
      )
    }
    return undefined
  }

  /**
   * Compares a file with its digest in the manifest, once.
   * @throws {ImageError} IMG_CORRUPT where they differ, or the manifest does not tell of the file.
   */
  async verify({ name, storage }: StoredPart): Promise<void> {
    if (this.manifest === undefined || this.verified.has(name)) return
    const digest = this.manifest.get(name)
    if (digest === undefined) throw notListed(name, this.label)
    if ((await digestOf(storage, digest.algorithm, this.#context)) !== digest.hex) {
      throw ovaError(
        'IMG_CORRUPT',
        `the ${digest.algorithm} digest of ${JSON.stringify(name)} is not the one in the manifest`,
        this.label,
        undefined,
        'the file was damaged or changed; to read it all the same: --open verify=off',
      )
    }
    this.verified.add(name)
  }

  async #openOne(name: string): Promise<StoredPart[]> {
    const storage = await this.files.open(name)
    return storage === undefined ? [] : [{ name, storage }]
  }

  /** Chunks are numbered with nine digits from 0, and all but the last have the same size. DSP0243, 7.1. */
  async #openChunks(name: string, { chunkSize = 0, size }: OvfFile): Promise<StoredPart[]> {
    const count = size === undefined ? undefined : Math.max(1, Math.ceil(size / chunkSize))
    const parts: StoredPart[] = []
    try {
      for (let index = 0; count === undefined || index < count; index++) {
        if (index >= MAX_MEMBERS) throw corrupt(`${JSON.stringify(name)} is in too many parts`, this.label)
        const chunk = `${name}.${String(index).padStart(9, '0')}`
        const storage = await this.files.open(chunk)
        if (storage === undefined) {
          if (count === undefined || index === 0) break
          throw missing(chunk, this.label)
        }
        parts.push({ name: chunk, storage })
        const before = parts[index - 1]
        if ((before && before.storage.size !== chunkSize) || storage.size > chunkSize)
          throw corrupt(`the parts of ${JSON.stringify(name)} are not of ${chunkSize} bytes`, this.label)
      }
      return parts
    } catch (error) {
      await closeParts(parts)
      throw error
    }
  }
}

/** Closes parts of a file. */
export async function closeParts(parts: readonly StoredPart[]): Promise<void> {
  for (const { storage } of parts) await storage.close().catch(() => undefined)
}

/**
 * Opens a package: an archive, or a descriptor with its files beside it. Reads descriptor and manifest, and compares what they
 * say with the files that are there.
 * @throws {ImageError} IMG_NOT_THIS_FORMAT, IMG_CORRUPT, IMG_TRUNCATED, IMG_UNSUPPORTED, IMG_REFERENCE_DENIED.
 */
export async function openPackage(storage: Storage, context: OpenContext): Promise<Package> {
  const head = new Uint8Array(Math.min(RECORD, storage.size))
  await storage.read(0, head, context)
  const isArchive = looksLikeTar(head)
  const { label } = storage
  if (!isArchive && !looksLikeXml(head)) {
    throw ovaError('IMG_NOT_THIS_FORMAT', 'is neither an archive (OVA) nor a descriptor (OVF)', label)
  }
  const files = isArchive ? await archiveFiles(storage, context) : folderFiles(storage, context)
  const bytes = await readSmall(files, files.descriptor, MAX_DESCRIPTOR_BYTES, context)
  if (bytes === undefined) throw missing(files.descriptor, label)
  const descriptor = parseDescriptor(bytes, isArchive ? `${label}/${files.descriptor}` : label)
  const off = context.options.verify === 'off'
  const manifest = off ? undefined : await readManifest(files, context)
  const opened = new Package(files, descriptor, manifest, context)
  for (const fault of await faultsOf(opened)) {
    if (context.repair === true) break
    if (context.salvage !== true) throw fault
    context.warn(fault.message, 'WARN_DAMAGED')
  }
  return opened
}

/** The first characters of an XML document. */
export function looksLikeXml(head: Uint8Array): boolean {
  const plain = head.filter((byte) => byte !== 0)
  const start = plain[0] === 0xef ? 3 : (plain[0] ?? 0) >= 0xfe ? 2 : 0
  return /^\s*</.test(new TextDecoder('latin1').decode(plain.subarray(start)))
}

async function readManifest(
  files: PackageFiles,
  context: OpenContext,
): Promise<ReadonlyMap<string, Digest> | undefined> {
  const { manifest } = files
  if (manifest === undefined) return undefined
  let bytes: Uint8Array | undefined
  try {
    bytes = await readSmall(files, manifest, MAX_MANIFEST_BYTES, context)
  } catch (error) {
    // For information nothing else needs to be there.
    if (!context.inspect || !ImageError.is(error, 'IMG_REFERENCE_DENIED')) throw error
  }
  return bytes && parseManifest(bytes, `${files.label}: ${manifest}`)
}

async function readSmall(
  files: PackageFiles,
  name: string,
  limit: number,
  context: OpenContext,
): Promise<Uint8Array | undefined> {
  const storage = await files.open(name)
  if (storage === undefined) return undefined
  try {
    if (storage.size > limit) throw corrupt(`${name} has more than ${limit} bytes`, files.label)
    const bytes = new Uint8Array(storage.size)
    if (bytes.length > 0) await storage.read(0, bytes, context)
    return bytes
  } finally {
    await storage.close()
  }
}

/**
 * What descriptor, manifest and files contradict each other in, the digest of the descriptor included; those of the other
 * files are not computed. Most urgent first.
 */
export async function faultsOf(opened: Package): Promise<readonly ImageError[]> {
  const faults: ImageError[] = []
  const { label, files, manifest, descriptor } = opened
  const attempt = async (job: () => Promise<void>): Promise<void> => {
    try {
      await job()
    } catch (error) {
      if (!ImageError.is(error)) throw error
      faults.push(error)
    }
  }
  await attempt(() => verifyNamed(opened, files.descriptor))
  const disks = new Set(descriptor.disks.map(({ file }) => file))
  for (const file of descriptor.files) {
    // What is elsewhere is none of the package's; a disk that is there is refused when it is opened.
    if (isUrl(file.href)) continue
    // Beside a descriptor only what is read is looked for.
    if (files.names === undefined) {
      await attempt(async () => void namesOf(file.href, label))
      continue
    }
    await attempt(async () => {
      const parts = await opened.open(file)
      if (parts === undefined) {
        if (disks.has(file)) throw missing(file.href, label)
        return
      }
      await closeParts(parts)
      for (const { name } of parts) if (manifest && !manifest.has(name)) throw notListed(name, label)
    })
  }
  for (const name of files.names === undefined ? [] : (manifest?.keys() ?? [])) {
    if (files.names?.includes(name) !== true)
      faults.push(corrupt(`the manifest tells of ${JSON.stringify(name)}, which is not there`, label))
  }
  return faults
}

/** Compares a file with its digest. @throws {ImageError} IMG_CORRUPT, also where the file is not there. */
export async function verifyNamed(opened: Package, name: string): Promise<void> {
  if (opened.manifest === undefined) return
  const storage = await opened.files.open(name)
  if (storage === undefined) throw missing(name, opened.label)
  try {
    await opened.verify({ name, storage })
  } finally {
    await storage.close()
  }
}

/** A file that should be there. */
export function missing(name: string, source: string): ImageError {
  return ovaError('IMG_REFERENCE_MISSING', `the file ${JSON.stringify(name)} is not in the package`, source)
}

/** A file that the manifest leaves out. */
export function notListed(name: string, source: string): ImageError {
  return corrupt(`the manifest does not tell of ${JSON.stringify(name)}`, source)
}
