import type { Allocation, MaybePromise } from '@img/core'
import { isPromise } from '@img/core'
import { lvmError } from './errors.js'
import { areasOf } from './extents.js'
import { snapshotLinks } from './logical-volumes.js'
import type { Volume } from './volume.js'
import type { VolumeGroup } from './volume-group.js'

/** Whether what is written to a volume goes to physical volumes as it is: linear or striped, and nobody's origin or snapshot. */
export function isPlain(group: VolumeGroup, name: string): boolean {
  const links = [...snapshotLinks(group).values()]
  if (links.some(({ origin, store }) => origin === name || store === name)) return false
  const volume = group.logicalVolumes.get(name)
  return (
    volume?.segments.every(
      (segment) =>
        (segment.type === 'striped' || segment.type === 'linear') &&
        areasOf(volume, segment).every((area) => group.physicalVolumes.has(area.name)),
    ) ?? false
  )
}

/** Where the bytes of a plain volume are: they are overwritten there. */
export function allocatePlain(volume: Volume, offset: number, length: number): MaybePromise<Allocation> {
  const found = volume.lookup(offset, length)
  return isPromise(found) ? found.then(placeOf) : placeOf(found)
}

function placeOf(run: Awaited<ReturnType<Volume['lookup']>>): Allocation {
  if (run.kind !== 'data') throw lvmError('IMG_UNSUPPORTED', 'this part of the volume cannot be written')
  return { storage: run.storage, hostOffset: run.hostOffset, length: run.length }
}
