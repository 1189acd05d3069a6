import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { compressHere } from '../src/access/compress-here.js'
import { alignDown, alignUp } from '../src/bytes.js'
import type { DiskImage } from '../src/image.js'
import { openImage } from '../src/open.js'
import { referencesFrom } from '../src/reference.js'
import { createRegistry } from '../src/registry.js'
import { type MemoryStorage, memoryStorage } from '../src/storage/memory.js'
import { pattern, readAll } from './support/disks.js'
import { checkExtents, expectBytes } from './support/extents.js'
import { hookedStorage } from './support/hooked-storage.js'
import { buildToy, type ToyCluster, toy } from './toy-format.js'

const kinds = ['unallocated', 'zero', 'reserved', 'data', 'holed', 'packed'] as const
type Kind = (typeof kinds)[number]

interface Layer {
  readonly clusterSize: number
  readonly clusters: readonly Kind[]
  /** Bytes of the last cluster that the disk does not have. */
  readonly cut: number
}

const layer: fc.Arbitrary<Layer> = fc.record({
  clusterSize: fc.constantFrom(512, 1024, 4096),
  clusters: fc.array(fc.constantFrom(...kinds), { minLength: 1, maxLength: 9, size: 'max' }),
  cut: fc.nat(511),
})

const place = fc.double({ min: 0, max: 1, noNaN: true })
const range = { at: place, to: place }
const changes = fc.oneof(
  fc.record({ op: fc.constant('write' as const), ...range, seed: fc.nat(99) }),
  fc.record({ op: fc.constant('writeZeroes' as const), ...range, unmap: fc.boolean() }),
  fc.record({ op: fc.constant('discard' as const), ...range }),
  fc.record({ op: fc.constant('resize' as const), factor: fc.double({ min: 0.2, max: 2, noNaN: true }) }),
)
const looks = fc.oneof(
  fc.record({ op: fc.constant('read' as const), ...range }),
  fc.record({ op: fc.constant('extents' as const), ...range, holes: fc.boolean() }),
  fc.constant({ op: 'flush' as const }),
  fc.constant({ op: 'reopen' as const }),
)
const command = fc.oneof({ weight: 3, arbitrary: changes }, looks)

const sizeOf = ({ clusterSize, clusters, cut }: Layer): number => clusters.length * clusterSize - cut

/** The image of a layer and what a guest sees of it over `below`. */
async function build(
  { clusterSize, clusters, cut }: Layer,
  seed: number,
  below: Uint8Array | undefined,
): Promise<{ file: MemoryStorage; content: Uint8Array }> {
  const file = memoryStorage()
  const content = new Uint8Array(sizeOf({ clusterSize, clusters, cut }))
  const built: ToyCluster[] = []
  for (const [index, kind] of clusters.entries()) {
    const bytes = pattern(clusterSize, seed + index)
    if (kind === 'holed') bytes.fill(0, Math.floor(clusterSize / 3))
    const guest = content.subarray(index * clusterSize, (index + 1) * clusterSize)
    if (kind === 'unallocated')
      guest.set((below ?? content).subarray(index * clusterSize).subarray(0, guest.length))
    else if (kind !== 'zero' && kind !== 'reserved') guest.set(bytes.subarray(0, guest.length))
    if (kind === 'packed') built.push({ packed: await compressHere(bytes, { codec: 'zlib' }) })
    else built.push(kind === 'data' || kind === 'holed' ? bytes : kind)
  }
  const backing = below && { backing: 'base' }
  await buildToy(file, built, { clusterSize, size: content.length, ...backing })
  return { file, content }
}

describe('a disk and a plain array', () => {
  it('hold the same bytes after any series of changes, with a backing file and without', async () => {
    await fc.assert(
      fc.asyncProperty(
        layer,
        fc.option(layer, { nil: undefined }),
        fc.boolean(),
        fc.array(command, { maxLength: 20, size: 'max' }),
        async (top, base, slow, commands) => {
          const below = base && (await build(base, 100, undefined))
          const { file, content } = await build(top, 1, below?.content)
          const baseBefore = below?.file.bytes().slice()
          let model = content
          const open = (): Promise<DiskImage> =>
            openImage(hookedStorage(file, { keepOpen: true, sync: !slow }), {
              format: toy,
              registry: createRegistry([toy]),
              writable: true,
              options: { async: slow },
              references: referencesFrom(
                below ? { base: hookedStorage(below.file, { keepOpen: true, sync: !slow }) } : {},
              ),
            })
          let disk = await open()
          for (const step of [...commands, { op: 'reopen' as const }]) {
            const start = 'at' in step ? Math.floor(Math.min(step.at, step.to) * model.length) : 0
            const end = 'at' in step ? Math.ceil(Math.max(step.at, step.to) * model.length) : 0
            switch (step.op) {
              case 'read': {
                const bytes = new Uint8Array(end - start).fill(0x55)
                await disk.read(start, bytes)
                expectBytes(bytes, model.subarray(start, end))
                break
              }
              case 'write': {
                const bytes = pattern(end - start, step.seed)
                await disk.write?.(start, bytes)
                model.set(bytes, start)
                break
              }
              case 'writeZeroes':
                await disk.writeZeroes?.(start, end - start, { unmap: step.unmap })
                model.fill(0, start, end)
                break
              case 'discard': {
                await disk.discard?.(start, end - start)
                // Whole clusters read as zeros then, in this format; the rest is kept.
                const first = alignUp(start, top.clusterSize)
                const last = end === model.length ? end : alignDown(end, top.clusterSize)
                if (first < last) model.fill(0, first, last)
                break
              }
              case 'resize': {
                const size = Math.floor(model.length * step.factor)
                await disk.resize?.(size, { shrink: true })
                const resized = new Uint8Array(size)
                resized.set(model.subarray(0, size))
                model = resized
                break
              }
              case 'extents':
                await checkExtents(disk, model, { offset: start, length: end - start, holes: step.holes })
                break
              case 'flush':
                await disk.flush?.()
                break
              case 'reopen':
                await disk.close()
                disk = await open()
                break
            }
          }
          expect(disk.size).toBe(model.length)
          expectBytes(await readAll(disk), model)
          await checkExtents(disk, model)
          await checkExtents(disk, model, { holes: true })
          await disk.close()
          if (below && baseBefore) expectBytes(below.file.bytes(), baseBefore)
        },
      ),
      { numRuns: 400 },
    )
  })
})
