import type { FormatInfo } from '@img/core'
import type { Descriptor } from './descriptor.js'
import { NO_PARENT } from './limits.js'
import type { DiskExtent } from './open-extents.js'

/** What an image tells of itself: qemu-img's keys, and the rest of the descriptor. */
export function describeImage(
  source: string,
  descriptor: Descriptor | undefined,
  createType: string,
  extents: readonly DiskExtent[],
): FormatInfo {
  const shown = extents.map(({ extent, line, size, label }) => ({
    ...(extent.compressed === true && { compressed: true }),
    'virtual-size': size,
    filename: label ?? '',
    ...(extent.grainSize !== undefined && { 'cluster-size': extent.grainSize }),
    // As in QEMU: nothing for the image's own file.
    format: line.type === 'SPARSE' && label === source ? '' : line.type,
  }))
  const sizes = new Set(extents.map(({ extent }) => extent.grainSize))
  const [size] = sizes
  const unclean = extents.some(({ sparse }) => sparse?.header.uncleanShutdown)
  return {
    ...(sizes.size === 1 && size !== undefined && { clusterSize: size }),
    ...(sizes.size <= 1 && { dirty: unclean }),
    specific: {
      cid: descriptor?.cid('CID') ?? 0,
      'parent-cid': descriptor?.cid('parentCID') ?? NO_PARENT,
      'create-type': createType,
      extents: shown,
    },
    extra: descriptorExtra(descriptor, extents),
  }
}

const known = new Set(['cid', 'parentcid', 'createtype', 'parentfilenamehint'])

/** The keys of the descriptor that qemu-img does not show, under their own names in kebab-case. */
function descriptorExtra(
  descriptor: Descriptor | undefined,
  extents: readonly DiskExtent[],
): Readonly<Record<string, unknown>> {
  const extra: Record<string, unknown> = {}
  for (const [key, value] of descriptor?.entries() ?? []) {
    if (known.has(key.toLowerCase())) continue
    const name = key.replace(/^ddb\./i, '').replace(/([a-z0-9])([A-Z])/g, '$1-$2')
    extra[name.replace(/[^A-Za-z0-9]+/g, '-').toLowerCase()] = value
  }
  const access = extents.map(({ line }) => line.access)
  if (access.some((word) => word !== 'RW')) extra['extent-access'] = access
  const version = extents.find(({ line, sparse }) => line.type === 'SPARSE' && sparse)?.sparse?.header.version
  if (version !== undefined) extra['sparse-version'] = version
  return extra
}
