import type { IoOptions } from './storage.js'
import type { VolumeStore } from './volumes.js'

/** What the volumes of a disk need of it: runs a change once those begun before are done. */
export type VolumeTurn = <T>(options: IoOptions | undefined, task: () => Promise<T>) => Promise<T>

/** The volumes of a disk, over those of its driver: changes come one after another, and only where it is open for writing. */
export function diskVolumes(store: VolumeStore, writable: boolean, inTurn: VolumeTurn): VolumeStore {
  const { create, resize, remove, rename, tag, grow, merge } = store
  const info: VolumeStore['info'] = () => store.info()
  if (!writable) return { info }
  return {
    info,
    ...(create && {
      create: (volume, options) => inTurn(options, () => create.call(store, volume, options)),
    }),
    ...(resize && {
      resize: (name, size, options) => inTurn(options, () => resize.call(store, name, size, options)),
    }),
    ...(remove && { remove: (name, options) => inTurn(options, () => remove.call(store, name, options)) }),
    ...(rename && {
      rename: (name, to, options) => inTurn(options, () => rename.call(store, name, to, options)),
    }),
    ...(tag && {
      tag: (name, change, options) => inTurn(options, () => tag.call(store, name, change, options)),
    }),
    ...(grow && { grow: (options) => inTurn(options, () => grow.call(store, options)) }),
    ...(merge && { merge: (name, options) => inTurn(options, () => merge.call(store, name, options)) }),
  }
}
