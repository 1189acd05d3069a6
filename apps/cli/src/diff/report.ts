import type { DiffExtent } from '@img/core'
import { qemuJsonLine } from '../output/json.js'
import { printOut } from '../output/write.js'
import { humanSize } from '../sizes.js'
import type { Side, Sides } from './sides.js'

/** Characters gathered before they are written. */
const chunk = 64 * 1024

/** Prints differences as they are found. */
export interface Report {
  add(extent: DiffExtent): void
  end(): void
}

/** What is known before anything is compared. */
export interface ReportFacts {
  readonly sides: Sides
  readonly granularity: number
  readonly quick: boolean
  /** SHA-256 of all that the disks hold, where asked for. */
  readonly sums?: { readonly from: string; readonly to: string } | undefined
}

/** Nothing but the exit code. */
export const silent: Report = { add: () => undefined, end: () => undefined }

/** A table for people, with a line that sums it up. */
export function tableReport({ sides, quick, sums }: ReportFacts): Report {
  const { from, to } = sides
  let text = ''
  let count = 0
  let bytes = 0
  return {
    add({ offset, length, zero }) {
      if (count === 0) text += row('Offset', 'Length', 'Content')
      text += row(hex(offset), hex(length), zero ? 'zero' : 'data')
      count++
      bytes += length
      if (text.length < chunk) return
      printOut(text)
      text = ''
    },
    end() {
      if (from.disk.size !== to.disk.size) {
        text += `Image sizes differ: ${from.name} has ${from.disk.size} bytes, ${to.name} has ${to.disk.size} bytes\n`
      }
      if (count > 0) {
        const may = quick ? 'may differ' : bytes === 1 ? 'differs' : 'differ'
        text += `${bytes} bytes (${humanSize(bytes)}) in ${count} ${count === 1 ? 'extent' : 'extents'} ${may}\n`
      } else if (from.disk.size === to.disk.size) text += 'Images are identical.\n'
      if (sums !== undefined) text += `sha256: ${sums.from} (base), ${sums.to} (target)\n`
      printOut(text)
    },
  }
}

function row(...cells: readonly string[]): string {
  return `${cells
    .map((cell) => cell.padEnd(16))
    .join('')
    .trimEnd()}\n`
}

function hex(value: number): string {
  return value === 0 ? '0' : `0x${value.toString(16)}`
}

/** One JSON object, its extents a line each, as `map` has them. */
export function jsonReport({ sides, granularity, quick, sums }: ReportFacts): Report {
  const { from, to } = sides
  let text = `{\n    "base": ${sideJson(from, sums?.from)},\n    "target": ${sideJson(to, sums?.to)},\n`
  text += `    "granularity": ${granularity},\n    "quick": ${quick},\n    "extents": [`
  let count = 0
  let bytes = 0
  return {
    add({ offset, length, zero }) {
      text += `${count === 0 ? '\n' : ',\n'}        { "start": ${offset}, "length": ${length}, "zero": ${zero}, "data": ${!zero} }`
      count++
      bytes += length
      if (text.length < chunk) return
      printOut(text)
      text = ''
    },
    end() {
      const identical = count === 0 && from.disk.size === to.disk.size
      text += `${count === 0 ? '' : '\n    '}],\n    "changed-bytes": ${bytes},\n    "identical": ${identical}\n}\n`
      printOut(text)
    },
  }
}

function sideJson({ name, disk, image, snapshot }: Side, sha256: string | undefined): string {
  return qemuJsonLine({
    filename: name,
    format: image.format.name,
    'virtual-size': disk.size,
    snapshot,
    sha256,
  })
}
