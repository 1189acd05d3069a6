import { type AmendContext, ImageError, isPowerOfTwo } from '@img/core'
import { rewriteHeader } from './amend-header.js'
import type { AmendOptionValues } from './amend-options.js'
import { changeRefcountBits } from './amend-refcounts.js'
import { assertDowngrade, downgrade, upgrade } from './amend-version.js'
import { backingReference } from './backing-name.js'
import { badOption } from './create-options.js'
import { ExtensionType, type HeaderExtension, makeStringExtension } from './extensions.js'
import { Autoclear, Compatible, type FeatureBits } from './features.js'
import { CryptMethod, type Header } from './header.js'
import { SECTOR } from './limits.js'
import type { WritableImage } from './write-image.js'
import type { WritableMap } from './write-map.js'

/**
 * Changes options of an image, by QEMU's rules and in its order: what needs version 3 after going up to it, and going down
 * last. What can be refused is refused before anything is changed.
 * @throws {ImageError} IMG_BAD_OPTION, IMG_UNSUPPORTED; as writing.
 */
export async function amendImage(
  target: WritableImage,
  map: WritableMap,
  options: AmendOptionValues,
  context: AmendContext,
): Promise<void> {
  const wanted = await check(target, options)
  const { signal } = context
  await target.begin()
  if (asksForKeys(options)) {
    const { amendKeySlots } = await import('./encryption.js')
    await amendKeySlots(target, options as Readonly<Record<string, unknown>>, context)
  }
  if (wanted.version > target.header.version) {
    await upgrade(target, context)
    map.headerChanged()
  }
  const { refcountOrder } = target.header
  if (wanted.refcountOrder !== refcountOrder) {
    await changeRefcountBits(target, wanted.refcountOrder, context)
  }
  const header = amendedHeader(target.header, options)
  if (header !== target.header) await rewriteHeader(target, header, { signal })
  if (options.size !== undefined && options.size !== target.header.size) await context.resize(options.size)
  if (wanted.version < target.header.version) {
    await downgrade(target, context)
    map.headerChanged()
  }
}

/** What is not as it was, or is as asked for. */
interface Wanted {
  readonly version: 2 | 3
  readonly refcountOrder: number
}

async function check(target: WritableImage, options: AmendOptionValues): Promise<Wanted> {
  const { header } = target
  const version = wantedVersion(options.compat) ?? header.version
  const bits = options.refcount_bits ?? 2 ** header.refcountOrder
  if (!isPowerOfTwo(bits) || bits > 64) {
    throw badOption('Refcount width must be a power of two and may not exceed 64 bits')
  }
  checkEncryption(header, options)
  checkDataFile(target, options)
  checkBacking(target, options)
  if (version < 3 && bits !== 16) {
    throw badOption(
      options.refcount_bits === undefined
        ? 'compat=0.10 requires refcount_bits=16'
        : 'Refcount widths other than 16 bits require compatibility level 1.1 or above (use compat=1.1 or greater)',
    )
  }
  if (options.lazy_refcounts === true && version < 3) {
    throw badOption(
      'Lazy refcounts only supported with compatibility level 1.1 and above (use compat=1.1 or greater)',
    )
  }
  if (options.size !== undefined && options.size % SECTOR !== 0) {
    throw badOption(`The new size must be a multiple of ${SECTOR}`)
  }
  const { encryption } = target.image
  if (version < header.version && encryption !== undefined && !encryption.luks && target.hasBacking) {
    // Zeros that version 2 cannot mark have to be written, and what they are encrypted as depends on where each is on the disk.
    const message = 'overlays with the legacy encryption cannot be made version 2'
    throw new ImageError('IMG_UNSUPPORTED', message, { format: 'qcow2' })
  }
  if (version < header.version) await assertDowngrade(target, options.size ?? header.size)
  return { version, refcountOrder: Math.log2(bits) }
}

function wantedVersion(compat: string | undefined): 2 | 3 | undefined {
  switch (compat) {
    case undefined:
    case '':
      return undefined
    case '0.10':
    case 'v2':
      return 2
    case '1.1':
    case 'v3':
      return 3
    default:
      throw badOption(`Unknown compatibility level ${compat}`)
  }
}

function asksForKeys(options: AmendOptionValues): boolean {
  return Object.entries(options).some(([name, value]) => name.startsWith('encrypt.') && value !== undefined)
}

function checkEncryption(header: Header, options: AmendOptionValues): void {
  if (!asksForKeys(options)) return
  if (header.cryptMethod === CryptMethod.none) {
    throw badOption("Can't amend encryption options - encryption not present")
  }
  if (header.cryptMethod !== CryptMethod.luks) {
    throw badOption('Only LUKS encryption options can be amended')
  }
}

function checkDataFile(target: WritableImage, options: AmendOptionValues): void {
  const { data_file: name, data_file_raw: rawData } = options
  if (name !== undefined && !target.external) {
    throw badOption('data-file can only be set for images that use an external data file')
  }
  if (name?.includes('\0')) throw badOption('a file name cannot contain a NUL byte')
  if (rawData === true && !target.rawData) throw badOption('data-file-raw cannot be set on existing images')
}

function checkBacking(target: WritableImage, options: AmendOptionValues): void {
  const { backing_file: name, backing_fmt: format } = options
  if (name === undefined && format === undefined) return
  const now = backingReference(target.header, target.storage.label)
  if ((name ?? now?.name) === (now?.name ?? '') && (format ?? now?.format) === now?.format) return
  throw badOption('Cannot amend the backing file', "You can use 'qemu-img rebase' instead.")
}

/** The header with the options that need no more than that; the same one where nothing changes. */
function amendedHeader(header: Header, options: AmendOptionValues): Header {
  const { lazy_refcounts: lazy, data_file_raw: rawData, data_file: name } = options
  let changed = header
  if (lazy !== undefined && lazy !== header.compatibleFeatures.has(Compatible.lazyRefcounts)) {
    const compatibleFeatures = withFeature(header.compatibleFeatures, Compatible.lazyRefcounts, lazy)
    changed = { ...changed, compatibleFeatures }
  }
  if (rawData === false && header.autoclearFeatures.has(Autoclear.rawDataFile)) {
    const autoclearFeatures = withFeature(header.autoclearFeatures, Autoclear.rawDataFile, false)
    changed = { ...changed, autoclearFeatures }
  }
  if (name !== undefined) changed = { ...changed, extensions: withDataFile(header.extensions, name) }
  return changed
}

function withFeature(bits: FeatureBits, bit: number, set: boolean): FeatureBits {
  const changed = new Set(bits)
  if (set) changed.add(bit)
  else changed.delete(bit)
  return changed
}

/** An empty name is none: whoever opens the image has to name the file. */
function withDataFile(extensions: readonly HeaderExtension[], name: string): HeaderExtension[] {
  const others = extensions.filter(({ type }) => type !== ExtensionType.dataFile)
  return name === '' ? others : [...others, makeStringExtension(ExtensionType.dataFile, name)]
}
