import { formatConformance, type Sample } from '@img/conformance'
import { describe, it } from 'vitest'
import { ova } from '../src/format.js'
import { descriptor, manifest, noise, rawDisks, tar } from './support/build.js'

const disk = { name: 'a.raw', bytes: noise(20_480) }
const own = rawDisks([disk])
const empty = descriptor('', '<Disk ovf:diskId="d" ovf:capacity="20480"/>')

const samples: readonly Sample[] = [
  {
    name: 'an empty disk',
    size: 20_480,
    file: () => tar([empty, manifest([empty])]),
    content: () => new Uint8Array(20_480),
  },
  {
    name: 'a raw disk, with a manifest',
    size: disk.bytes.length,
    file: () => tar([own, manifest([own, disk]), disk]),
    content: () => disk.bytes,
  },
]

formatConformance({ describe, it }, { format: ova, samples })
