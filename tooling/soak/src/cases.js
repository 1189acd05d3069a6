import { Random } from './random.js'

const KIB = 1024
const MIB = 1024 * KIB

/**
 * @typedef {object} Case what the image is at first
 * @property {number} index
 * @property {number} seed of its content and steps
 * @property {number} clusterBits
 * @property {'0.10' | '1.1'} compat
 * @property {number} refcountBits
 * @property {boolean} extended extended L2 entries
 * @property {boolean} lazy lazy refcounts
 * @property {'zlib' | 'zstd'} compression
 * @property {'none' | 'raw' | 'chain'} backing `chain`: a qcow2 image over a raw one
 * @property {'inside' | 'file' | 'raw'} data where data clusters are; `raw`: in a data file that stays a raw image
 * @property {'empty' | 'compressed' | 'metadata'} start
 * @property {'none' | 'aes' | 'luks'} encryption
 * @property {'qemu' | 'img'} maker who makes the image
 * @property {number} size virtual size in bytes
 */

/** Version 2, and every width of refcounts of version 3. */
const levels = /** @type {const} */ ([
  ['1.1', 16],
  ['0.10', 16],
  ['1.1', 1],
  ['1.1', 2],
  ['1.1', 64],
  ['1.1', 4],
  ['1.1', 32],
  ['1.1', 8],
])

/** Cases after which every cluster size has met every level. */
export const allPairs = 13 * levels.length

/**
 * Cluster sizes and levels go round; what else there is comes from the seed.
 * @param {number} seed
 * @param {number} index
 * @param {{ encryption?: boolean }} [able] what is there to be tested
 * @returns {Case}
 */
export function caseOf(seed, index, able = {}) {
  const random = new Random(seed * 7919 + index)
  const clusterBits = 9 + ((7 + index * 5) % 13)
  const [compat, refcountBits] = levels[index % levels.length]
  const v3 = compat === '1.1'
  const data = v3 && random.chance(0.15) ? random.pick(/** @type {const} */ (['file', 'raw'])) : 'inside'
  const extended = v3 && clusterBits >= 14 && random.chance(0.4)
  const backing =
    data === 'raw' ? 'none' : random.pick(/** @type {const} */ (['none', 'none', 'raw', 'chain']))
  const encryption =
    able.encryption === true && data === 'inside' && random.chance(0.25)
      ? random.weighted(
          /** @type {const} */ ([
            [1, 'aes'],
            [3, 'luks'],
          ]),
        )
      : 'none'
  const start = random.weighted(
    /** @type {const} */ ([
      [5, 'empty'],
      [data === 'inside' && encryption === 'none' ? 2 : 0, 'compressed'],
      // What room without content decrypts to is nobody's promise.
      [backing === 'none' && encryption === 'none' ? 1 : 0, 'metadata'],
    ]),
  )
  const base = clusterBits < 13 ? MIB : clusterBits < 17 ? 4 * MIB : clusterBits < 20 ? 10 * MIB : 20 * MIB
  return {
    index,
    seed: random.below(2 ** 31),
    clusterBits,
    compat,
    refcountBits,
    extended,
    lazy: v3 && random.chance(0.2),
    compression: v3 && random.chance(0.3) ? 'zstd' : 'zlib',
    backing,
    data,
    start,
    encryption,
    // What is compressed over a backing file is for qemu-img.
    maker: random.chance(0.5) && !(start === 'compressed' && backing !== 'none') ? 'img' : 'qemu',
    size: 512 * Math.ceil((base * (0.6 + 0.6 * random.next())) / 512),
  }
}

/** @param {Case} image @returns {string} for people */
export function titleOf(image) {
  const { clusterBits, compat, refcountBits, backing, data, start, encryption, size } = image
  const cluster = 2 ** clusterBits
  return [
    `case ${image.index}: clusters of ${cluster < KIB ? cluster : `${cluster / KIB} Ki`}B`,
    `compat ${compat}`,
    `refcounts of ${refcountBits} bits`,
    image.extended && 'extended L2',
    image.lazy && 'lazy refcounts',
    backing !== 'none' && `backing ${backing}`,
    data !== 'inside' && `data file${data === 'raw' ? ' kept raw' : ''}`,
    start !== 'empty' && `${start} at first${start === 'compressed' ? ` (${image.compression})` : ''}`,
    encryption !== 'none' && encryption,
    `made by ${image.maker}`,
    `${size} bytes`,
  ]
    .filter(Boolean)
    .join(', ')
}
