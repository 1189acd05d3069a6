import type { DiskImage } from '@img/core'
import { type ColourWhen, terminalStyle } from '../terminal-style.js'
import { pictureOf } from './cells.js'
import { cellsInLine, drawPicture } from './draw.js'

const mostLines = 16
/** A raw disk has no clusters: a cell is a page at least. */
const page = 4096

/** A range of a disk as a picture. */
export async function drawnMap(
  image: DiskImage,
  start: number,
  length: number,
  colour: ColourWhen,
): Promise<string> {
  const style = terminalStyle(colour)
  if (length === 0) return 'There is nothing of the disk from there on.\n'
  const extents = image.extents({ offset: start, length, holes: true })
  const count = cellsInLine(style) * mostLines
  const unit = Math.max(page, image.clusterSize)
  return drawPicture(await pictureOf(extents, { start, length, count, unit }), start, style)
}
