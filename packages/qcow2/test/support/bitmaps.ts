import type { BitmapStore, DirtyRange } from '@img/core'
import { run } from '@tooling/test-disks/qemu'

/** True where nbdinfo and qemu-nbd are there to read bitmaps as backup tools do. */
export const hasNbd: boolean =
  run('nbdinfo', '--version').status === 0 && run('qemu-nbd', '--version').status === 0
if (!hasNbd) console.warn('nbdinfo or qemu-nbd is missing: tests that read bitmaps through NBD are skipped')

/** The dirty ranges of a bitmap, as [offset, length]. */
export async function dirty(store: BitmapStore | undefined, name: string): Promise<[number, number][]> {
  const ranges: [number, number][] = []
  for await (const { offset, length } of store?.dirty?.(name) ?? []) ranges.push([offset, length])
  return ranges
}

/** The same, read by qemu-nbd. */
export function qemuDirty(path: string, name: string): [number, number][] {
  const map = `--map=qemu:dirty-bitmap:${name}`
  const server = ['[', 'qemu-nbd', '-r', '-f', 'qcow2', '-B', name, path, ']']
  const { status, stdout, stderr } = run('nbdinfo', '--json', map, '--', ...server)
  if (status !== 0) throw new Error(stderr)
  const extents = JSON.parse(stdout) as { offset: number; length: number; type: number }[]
  const ranges: [number, number][] = []
  for (const { offset, length, type } of extents) {
    if (type !== 1) continue
    const last = ranges.at(-1)
    if (last !== undefined && last[0] + last[1] === offset) last[1] += length
    else ranges.push([offset, length])
  }
  return ranges
}

/** The bitmaps that qemu-img tells of. */
export function qemuBitmaps(path: string): { flags: string[]; name: string; granularity: number }[] {
  const info = JSON.parse(run('qemu-img', 'info', '-f', 'qcow2', '--output=json', path).stdout)
  return info['format-specific'].data.bitmaps ?? []
}

/** Ranges in whole units of a granularity, as a bitmap marks them. */
export function marked(ranges: readonly DirtyRange[], granularity: number, size: number): [number, number][] {
  const units = new Set<number>()
  for (const { offset, length } of ranges) {
    for (let unit = Math.floor(offset / granularity); unit * granularity < offset + length; unit++)
      units.add(unit)
  }
  const found: [number, number][] = []
  for (const unit of [...units].sort((a, b) => a - b)) {
    const last = found.at(-1)
    const end = Math.min(size, (unit + 1) * granularity)
    if (end <= unit * granularity) continue
    if (last !== undefined && last[0] + last[1] === unit * granularity) last[1] = end - last[0]
    else found.push([unit * granularity, end - unit * granularity])
  }
  return found
}
