import { deflateSync } from 'node:zlib'
import { random } from '@tooling/test-disks/disks'

/** How a hosted sparse extent is to be made that no tool makes so. Sizes in sectors. */
export interface Craft {
  readonly grain?: number
  readonly gtes?: number
  readonly descriptorOffset?: number
  readonly descriptorSectors?: number
  /** False: one grain directory. */
  readonly redundant?: boolean
  /** The directory and its tables stand behind the grains. */
  readonly tablesLast?: boolean
  readonly version?: number
  /** Half of the grains without data are zeroed ones. */
  readonly zeroed?: boolean
  /** Grains stand in any order. */
  readonly shuffled?: boolean
  /** Compressed grains. */
  readonly stream?: boolean
  /** The directory is told by a footer. Default true where `stream`. */
  readonly footer?: boolean
  readonly markers?: boolean
  /** The last grain is compressed only as far as the disk goes. */
  readonly cutLast?: boolean
  readonly level?: number
  /** Sectors of zeros between the metadata and the first grain. */
  readonly gap?: number
  /** Bytes of zeros that follow. */
  readonly padding?: number
}

/** A file that grows where it is written. */
class Sectors {
  bytes: Buffer = Buffer.alloc(0)

  put(sector: number, bytes: Uint8Array): void {
    const end = Math.ceil((sector * 512 + bytes.length) / 512) * 512
    if (end > this.bytes.length)
      this.bytes = Buffer.concat([this.bytes, Buffer.alloc(end - this.bytes.length)])
    this.bytes.set(bytes, sector * 512)
  }

  get end(): number {
    return this.bytes.length / 512
  }
}

function numbers(entries: readonly number[]): Uint8Array {
  return new Uint8Array(Uint32Array.from(entries).buffer)
}

function marker(sectors: number, type: number): Buffer {
  const bytes = Buffer.alloc(512)
  bytes.writeBigUInt64LE(BigInt(sectors))
  bytes.writeUInt32LE(type, 12)
  return bytes
}

/** A disk of one file with that content. */
export function craft(disk: Uint8Array, spec: Craft = {}): Uint8Array {
  const { grain = 128, gtes = 512, descriptorOffset = 1, descriptorSectors = 20, stream = false } = spec
  const { footer = stream, markers = true, level = 6, redundant = !stream, tablesLast = footer } = spec
  const capacity = disk.length / 512
  const grains = Math.ceil(capacity / grain)
  const tables = Math.ceil(grains / gtes)
  const tableSectors = Math.ceil((gtes * 4) / 512)
  const directorySectors = Math.ceil((tables * 4) / 512)
  const copySectors = directorySectors + tables * tableSectors
  const out = new Sectors()
  const first = descriptorOffset + descriptorSectors
  const copies = redundant ? (tablesLast ? [first] : [first, first + copySectors]) : tablesLast ? [] : [first]
  const overhead = Math.ceil((first + copies.length * copySectors) / grain) * grain
  out.put(overhead - 1 + (spec.gap ?? 0), Buffer.alloc(512))
  const entries = new Array<number>(tables * gtes).fill(0)
  const next = random(5)
  const order = Array.from({ length: grains }, (_, index) => index)
  if (spec.shuffled === true) order.sort(() => next() - 0.5)
  for (const index of order) {
    const from = index * grain * 512
    const part = disk.subarray(from, from + grain * 512)
    if (part.every((byte) => byte === 0)) {
      if (spec.zeroed === true && next() < 0.5) entries[index] = 1
      continue
    }
    const whole = Buffer.alloc(spec.cutLast === true ? part.length : grain * 512)
    whole.set(part)
    entries[index] = out.end
    if (!stream) {
      out.put(out.end, whole)
      continue
    }
    const packed = deflateSync(whole, { level })
    const head = Buffer.alloc(12)
    head.writeBigUInt64LE(BigInt(index * grain))
    head.writeUInt32LE(packed.length, 8)
    out.put(out.end, markers ? Buffer.concat([head, packed]) : packed)
  }
  const tableOf = (index: number): Uint8Array => numbers(entries.slice(index * gtes, (index + 1) * gtes))
  const put = (at: number): number => {
    const sectors = Array.from({ length: tables }, (_, i) => at + directorySectors + i * tableSectors)
    for (const [index, sector] of sectors.entries()) out.put(sector, tableOf(index))
    out.put(at, numbers(sectors))
    return at
  }
  let gd = 0
  for (const at of copies) gd = put(at)
  if (footer) {
    const sectors = Array.from({ length: tables }, (_, index) => {
      if (tableOf(index).every((byte) => byte === 0)) return 0
      if (markers) out.put(out.end, marker(tableSectors, 1))
      const sector = out.end
      out.put(sector, tableOf(index))
      return sector
    })
    if (markers) out.put(out.end, marker(directorySectors, 2))
    gd = out.end
    out.put(gd, numbers(sectors))
  } else if (tablesLast) gd = put(out.end)
  const header = (directory: bigint): Buffer => {
    const bytes = Buffer.alloc(512)
    const { version = spec.zeroed === true ? 2 : 1 } = spec
    bytes.write('KDMV')
    bytes.writeUInt32LE(version, 4)
    const flags = (redundant ? 3 : 1) + (spec.zeroed === true ? 4 : 0)
    bytes.writeUInt32LE(flags + (stream ? 0x1_0000 + (markers ? 0x2_0000 : 0) : 0), 8)
    for (const [index, value] of [capacity, grain, descriptorOffset, descriptorSectors].entries())
      bytes.writeBigUInt64LE(BigInt(value), 12 + index * 8)
    bytes.writeUInt32LE(gtes, 44)
    bytes.writeBigUInt64LE(BigInt(redundant ? (copies[0] as number) : 0), 48)
    bytes.writeBigUInt64LE(directory, 56)
    bytes.writeBigUInt64LE(BigInt(overhead), 64)
    bytes.write('\n \r\n', 73, 'latin1')
    bytes.writeUInt16LE(stream ? 1 : 0, 77)
    return bytes
  }
  out.put(0, header(footer ? 2n ** 64n - 1n : BigInt(gd)))
  if (footer) for (const bytes of [marker(1, 3), header(BigInt(gd)), marker(0, 0)]) out.put(out.end, bytes)
  const type = stream ? 'streamOptimized' : 'monolithicSparse'
  const lines = ['version=1', 'CID=12345678', 'parentCID=ffffffff', `createType="${type}"`]
  const text = `# Disk DescriptorFile\n${lines.join('\n')}\nRW ${capacity} SPARSE "disk.vmdk"\n`
  out.put(descriptorOffset, Buffer.from(text))
  return new Uint8Array(Buffer.concat([out.bytes, Buffer.alloc(spec.padding ?? 0)]))
}
