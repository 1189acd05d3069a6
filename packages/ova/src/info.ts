import { type FormatInfo, ImageError, type OpenContext } from '@img/core'
import type { OvfDisk, OvfFile } from './descriptor.js'
import { openDiskFile } from './disk-file.js'
import { configurations, networks, virtualSystems } from './hardware.js'
import { openInside } from './inside.js'
import type { Package } from './package.js'

/** What a package tells of itself: its disks, its files, its manifest, and the machines that it describes. */
export async function describePackage(opened: Package, context: OpenContext): Promise<FormatInfo> {
  const { descriptor, files, manifest } = opened
  const disks: unknown[] = []
  for (const disk of descriptor.disks) disks.push(await describeDisk(opened, disk, context))
  const algorithms = [...new Set([...(manifest?.values() ?? [])].map(({ algorithm }) => algorithm))]
  const { root } = descriptor
  const shown = networks(root)
  const options = configurations(root)
  return {
    specific: {
      descriptor: files.descriptor,
      'ovf-version': descriptor.version,
      disks,
      ...(manifest && {
        manifest: {
          file: files.manifest,
          algorithm: algorithms.join(', '),
          verified: [...opened.verified],
          'not-verified': [...manifest.keys()].filter((name) => !opened.verified.has(name)),
        },
      }),
      // Signatures are not checked: whose they are is not for a disk tool to decide.
      ...(files.certificate !== undefined && { certificate: { file: files.certificate, checked: false } }),
      files: descriptor.files.map((file) => describeFile(file, opened)),
      ...(shown.length > 0 && { networks: shown }),
      ...(options.length > 0 && { configurations: options }),
      'virtual-systems': virtualSystems(root),
    },
  }
}

function describeFile(file: OvfFile, { manifest }: Package): unknown {
  const digest = manifest?.get(file.href)
  return {
    id: file.id,
    name: file.href,
    ...(file.size !== undefined && { size: file.size }),
    ...(file.compression !== 'identity' && { compression: file.compression }),
    ...(file.chunkSize !== undefined && { 'chunk-size': file.chunkSize }),
    ...(digest && { digest: `${digest.algorithm} ${digest.hex}` }),
  }
}

async function describeDisk(opened: Package, disk: OvfDisk, context: OpenContext): Promise<unknown> {
  const { file } = disk
  return {
    number: disk.number,
    id: disk.id,
    ...(file && { file: file.href }),
    ...(disk.capacity !== undefined && { capacity: disk.capacity }),
    ...(disk.populatedSize !== undefined && { 'populated-size': disk.populatedSize }),
    ...(file === undefined ? { empty: true } : await describeImage(opened, { ...disk, file }, context)),
    ...(disk.format !== undefined && { 'format-uri': disk.format }),
    ...(disk.parent !== undefined && { parent: disk.parent }),
  }
}

/** Format and size of the image itself; why not, where it cannot be opened. What is compressed whole is left as it is. */
async function describeImage(
  opened: Package,
  disk: OvfDisk & { readonly file: OvfFile },
  context: OpenContext,
): Promise<Record<string, unknown>> {
  if (disk.file.compression !== 'identity') return {}
  try {
    const file = await openDiskFile(opened, disk, { signal: context.signal, verify: false })
    const image = await openInside(file, disk, opened.label, { ...context, inspect: true })
    try {
      return { format: image.format.name, 'virtual-size': image.size }
    } finally {
      await image.close()
    }
  } catch (error) {
    if (!ImageError.is(error)) throw error
    return { unreadable: error.message }
  }
}
