import type { ResizeOptions } from '@img/core'
import { nothing } from '../toy/file.js'
import { makeToy, toy } from '../toy/format.js'
import { WritableToyMap } from '../toy/map.js'
import { type Broken, override, withDriver, withFormat, withMap } from './support.js'

/** Faults of writing in place. */
export const writes: readonly Broken[] = [
  {
    what: 'loses what was written since it was opened',
    format: withMap(() => ({ flush: () => undefined })),
    fault: /closed and opened again: guest offset \d+ reads as/,
  },
  {
    what: 'does not copy up what stands beside a write',
    format: makeToy({
      Map: class extends WritableToyMap {
        override async allocate(offset: number, length: number): ReturnType<WritableToyMap['allocate']> {
          const { fill: _, ...room } = await super.allocate(offset, length)
          return room
        }
      },
    }),
    fault: /guest offset \d+ reads as 0x[0-9a-f]+, expected/,
  },
  {
    what: 'reads old data where zeros were written',
    format: makeToy({
      Map: class extends WritableToyMap {
        override lookup(offset: number, length: number): ReturnType<WritableToyMap['lookup']> {
          const run = super.lookup(offset, length)
          if (run instanceof Promise || !('kind' in run) || run.kind !== 'zero' || !run.storage) return run
          return { kind: 'data', length: run.length, storage: run.storage, hostOffset: run.hostOffset ?? 0 }
        }
      },
    }),
    fault:
      /after writeZeroes\(\d+, \d+\): guest offset \d+ reads as 0x[0-9a-f]+, expected 0x00; found by: writeZeroes/,
  },
  {
    what: 'gives garbage where something was discarded',
    format: makeToy({
      Map: class extends WritableToyMap {
        override discard(offset: number): void {
          // The cluster is mapped to whatever stands at the start of the file.
          this.image.set(Math.floor(offset / this.clusterSize), { kind: 'data', host: 512, packed: 0 })
        }
      },
    }),
    subject: { options: [{ cluster_size: 512 }] },
    fault: /after discard\(\d+, \d+\), guest offset \d+ reads as garbage/,
  },
  {
    what: 'loses data when made larger',
    format: withDriver((driver) => ({
      async resize(size: number, options: ResizeOptions) {
        const larger = size > driver.size
        if (larger) await driver.resize?.(Math.floor(driver.size / 2048) * 1024, options)
        await driver.resize?.(size, options)
      },
    })),
    fault: /after resize\(\d+\): guest offset \d+ reads as/,
  },
  {
    what: 'does not change its size',
    format: withDriver((driver) => {
      const { size } = driver
      return { size, resize: async (wanted, options) => driver.resize?.(wanted, options) }
    }),
    fault: /after resize\(\d+\): the disk is \d+ bytes long, expected \d+/,
  },
  {
    what: 'gives the room of one cluster to another',
    format: makeToy({
      Map: class extends WritableToyMap {
        override async allocate(offset: number, length: number): ReturnType<WritableToyMap['allocate']> {
          const room = await super.allocate(offset, length)
          if (!room.publish || offset < 4096) return room
          const first = this.image.entry(0)
          return first.kind === 'data'
            ? { ...room, hostOffset: first.host + (offset % this.clusterSize) }
            : room
        }
      },
    }),
    fault: /guest offset \d+ reads as/,
  },
  {
    what: 'is opened for writing on a storage that cannot be written',
    format: withFormat({
      open: (storage, context) =>
        toy.open(
          storage.write
            ? storage
            : override(storage, {
                write: async () => undefined,
                truncate: async () => undefined,
                flush: async () => undefined,
              }),
          context,
        ),
    }),
    fault: /opening a storage without write for writing succeeded; expected ImageError IMG_READ_ONLY/,
  },
  {
    what: 'loses the snapshots when made smaller',
    format: withDriver((driver) => ({
      async resize(size: number, options: ResizeOptions) {
        if (size < driver.size) {
          for (const { id } of (await driver.snapshots?.list()) ?? []) await driver.snapshots?.delete?.(id)
        }
        await driver.resize?.(size, options)
      },
    })),
    fault: /the snapshots are , expected \d/,
  },
  {
    what: 'loses a cluster that lies beside one that is zeroed',
    format: makeToy({
      Map: class extends WritableToyMap {
        override zero(offset: number, length: number, options?: Parameters<WritableToyMap['zero']>[2]): void {
          super.zero(offset, length, options)
          const next = Math.ceil((offset + length) / this.clusterSize)
          if (length === 2 * this.clusterSize) this.image.set(next, nothing)
        }
      },
    }),
    fault: /guest offset \d+ reads as 0x[0-9a-f]+, expected 0x[0-9a-f]+; found by: .*writeZeroes/,
  },
]
