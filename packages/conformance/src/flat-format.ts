import { type ClusterRun, defineFormat, type Format, type ImageWriter, isWritable } from '@img/core'

/** Raw disks, for backing files that are not of the format under test. */
export const flat: Format = defineFormat({
  apiVersion: 1,
  name: 'raw',
  title: 'Raw disk of the test kit',
  extensions: ['.raw'],
  magic: [],
  createOptions: {},
  async open(storage) {
    return {
      get size() {
        return storage.size
      },
      map: {
        clusterSize: 1,
        lookup: (offset, length): ClusterRun => ({ kind: 'data', length, storage, hostOffset: offset }),
        ...(isWritable(storage) && {
          allocate: (offset: number, length: number) => ({ storage, hostOffset: offset, length }),
        }),
      },
      holes: 'zero',
      info: () => ({}),
    }
  },
  async create(target, spec): Promise<ImageWriter> {
    await target.truncate(spec.size ?? 0)
    return {
      clusterSize: 1,
      place: (offset: number, length: number) => ({ storage: target, hostOffset: offset, length }),
      finish: async ({ size = spec.size ?? 0 } = {}) => target.truncate(size),
    }
  },
})
