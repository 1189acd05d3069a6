import { defineFormat, type Format, isWritable } from '@img/core'

/** Just enough of raw to be a backing file or a comparison. */
export const raw: Format = defineFormat({
  apiVersion: 1,
  name: 'raw',
  title: 'raw, for tests',
  extensions: ['.raw'],
  magic: [],
  async open(storage, { writable }) {
    return {
      get size() {
        return storage.size
      },
      map: {
        clusterSize: 512,
        lookup: (offset, length) => ({ kind: 'data', length, storage, hostOffset: offset }),
        ...(writable && {
          allocate: (offset: number, length: number) => ({ storage, hostOffset: offset, length }),
        }),
      },
      info: () => ({}),
      ...(writable && isWritable(storage) && { resize: (size: number) => storage.truncate(size) }),
    }
  },
})
