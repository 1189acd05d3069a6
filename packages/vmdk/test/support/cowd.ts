import { writeFileSync } from 'node:fs'
import { join } from 'node:path'

/** How an extent of ESX is to be made. */
export interface CowdSpec {
  readonly sectors: number
  /** Sectors of a grain; ESX takes 1. */
  readonly grainSectors?: number
  /** Give every table room already: QEMU makes none. */
  readonly tables?: boolean
  /** Lines of the descriptor that name the parent: its content id, and its file. */
  readonly parent?: readonly string[]
}

/** Writes a vmfsSparse disk (descriptor and "COWD" extent) that holds nothing. Returns the path of the descriptor. */
export function writeCowd(folder: string, name: string, spec: CowdSpec): string {
  const { sectors, grainSectors = 1, tables = false, parent = ['parentCID=ffffffff'] } = spec
  const count = Math.ceil(sectors / (grainSectors * 4096))
  const directorySectors = Math.ceil((count * 4) / 512)
  const first = 4 + directorySectors
  const end = first + (tables ? count * 32 : 0)
  const bytes = Buffer.alloc(end * 512)
  bytes.write('COWD', 'latin1')
  for (const [at, value] of [1, 3, sectors, grainSectors, 4, count, end].entries()) {
    bytes.writeUInt32LE(value, 4 + at * 4)
  }
  bytes.write('kept', 1100, 'latin1')
  for (let i = 0; tables && i < count; i++) bytes.writeUInt32LE(first + i * 32, 2048 + i * 4)
  writeFileSync(join(folder, `${name}-delta.vmdk`), bytes)
  const text = [
    '# Disk DescriptorFile',
    'version=1',
    'CID=0badcafe',
    // QEMU drops what stands between the two ids.
    ...parent.slice(0, 1),
    'createType="vmfsSparse"',
    ...parent.slice(1),
    `RW ${sectors} VMFSSPARSE "${name}-delta.vmdk"`,
    'ddb.geometry.cylinders = "1"',
  ]
  const path = join(folder, `${name}.vmdk`)
  writeFileSync(path, `${text.join('\n')}\n`)
  return path
}
