import { viewOf, writeU64LE } from '@img/core'
import { lvmChecksum } from '../../src/checksum.js'

const sector = 512
const areaOffset = 4096
const areaSize = 8192
/** Bytes at which the extents begin, and bytes of one. */
export const extentStart = 16384
export const extentSize = 4096

/** A small disk with one physical volume. `volumes`: sections of logical volumes as text. */
export function buildDisk(extents: number, volumes: string, content: Uint8Array): Uint8Array {
  const disk = new Uint8Array(extentStart + extents * extentSize)
  disk.set(content, extentStart)
  const uuid = 'abcdefghijklmnopqrstuvwxyz012345'
  const label = disk.subarray(sector, sector * 2)
  const view = viewOf(label)
  put(label, 0, 'LABELONE')
  writeU64LE(view, 8, 1)
  view.setUint32(20, 32, true)
  put(label, 24, 'LVM2 001')
  put(label, 32, uuid)
  writeU64LE(view, 64, disk.length)
  // One data area, and one metadata area, each list ended by zeros.
  writeU64LE(view, 72, extentStart)
  writeU64LE(view, 104, areaOffset)
  writeU64LE(view, 112, areaSize)
  view.setUint32(16, lvmChecksum(label.subarray(20)), true)

  const text = new TextEncoder().encode(`contents = "Text Format Volume Group"
version = 1
vg0 {
id = "vvvvvv-vvvv-vvvv-vvvv-vvvv-vvvv-vvvvvv"
seqno = 3
status = ["READ", "WRITE"]
extent_size = ${extentSize / sector}
physical_volumes { pv0 { id = "abcdef-ghij-klmn-opqr-stuv-wxyz-012345"
status = ["ALLOCATABLE"]
dev_size = ${disk.length / sector}
pe_start = ${extentStart / sector}
pe_count = ${extents} } }
logical_volumes { ${volumes} }
}
\0`)
  const head = disk.subarray(areaOffset, areaOffset + sector)
  const headView = viewOf(head)
  put(head, 4, ' LVM2 x[5A%r0N*>')
  headView.setUint32(20, 1, true)
  writeU64LE(headView, 24, areaOffset)
  writeU64LE(headView, 32, areaSize)
  writeU64LE(headView, 40, sector)
  writeU64LE(headView, 48, text.length)
  headView.setUint32(56, lvmChecksum(text), true)
  headView.setUint32(0, lvmChecksum(head.subarray(4)), true)
  disk.set(text, areaOffset + sector)
  return disk
}

/** A logical volume with one segment. */
export function volume(name: string, segment: string): string {
  return `${name} { id = "${name}" status = ["READ", "VISIBLE"] segment_count = 1 segment1 { start_extent = 0 ${segment} } }\n`
}

function put(bytes: Uint8Array, at: number, text: string): void {
  bytes.set(new TextEncoder().encode(text), at)
}
