import { formatConformance, type Sample } from '@img/conformance'
import { describe, it } from 'vitest'
import { lvm } from '../src/format.js'
import { buildDisk, extentSize, volume } from './support/build.js'
import { layouts, volumeSize } from './support/layouts.js'
import { writableLvm } from './support/writable.js'

const content = Uint8Array.from({ length: 6 * extentSize }, (_, at) => (at * 7 + Math.floor(at / 256)) % 251)
const disk = buildDisk(
  6,
  volume('root', 'extent_count = 2 type = "striped" stripe_count = 1 stripes = ["pv0", 1]') +
    volume(
      'fast',
      'extent_count = 2 type = "striped" stripe_count = 2 stripe_size = 2 stripes = ["pv0", 3, "pv0", 5]',
    ) +
    volume('both', 'extent_count = 2 type = "raid1" device_count = 2 raid0_lvs = ["root", "fast"]') +
    volume('nought', 'extent_count = 3 type = "zero"'),
  content,
)

function part(extent: number, count = 1): Uint8Array {
  return content.slice(extent * extentSize, (extent + count) * extentSize)
}

/** Chunks of two sectors from one extent and the other in turn. */
function striped(): Uint8Array {
  const [a, b] = [part(3), part(5)]
  const all = new Uint8Array(2 * extentSize)
  for (let at = 0; at < extentSize; at += 1024) {
    all.set(a.subarray(at, at + 1024), at * 2)
    all.set(b.subarray(at, at + 1024), at * 2 + 1024)
  }
  return all
}

function sample(lv: string, bytes: Uint8Array): Sample {
  return { name: lv, size: bytes.length, file: () => disk.slice(), content: () => bytes, openOptions: { lv } }
}

formatConformance(
  { describe, it },
  {
    format: lvm,
    samples: [
      sample('root', part(1, 2)),
      sample('vg0/fast', striped()),
      sample('both', part(1, 2)),
      sample('nought', new Uint8Array(3 * extentSize)),
    ],
  },
)

formatConformance(
  { describe, it },
  {
    format: writableLvm,
    options: Object.keys(layouts).map((kind) => ({ kind })),
    virtualSize: (requested, { kind }) => volumeSize(requested, String(kind)),
    sizes: [512, extentSize, 10 * extentSize + 512],
    depth: 0.2,
  },
)
