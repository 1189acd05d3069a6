import { defineFormat, type Format } from '@img/core'

/** Just enough of raw to be a backing file or a comparison. */
export const raw: Format = defineFormat({
  apiVersion: 1,
  name: 'raw',
  title: 'raw, for tests',
  extensions: ['.raw'],
  magic: [],
  async open(storage) {
    return {
      size: storage.size,
      map: {
        clusterSize: 512,
        lookup: (offset, length) => ({ kind: 'data', length, storage, hostOffset: offset }),
      },
      info: () => ({}),
    }
  },
})
