import { describe, expect, it } from 'vitest'
import { abilities } from '../src/abilities.js'
import { allPairs, caseOf, titleOf } from '../src/cases.js'
import { SoakFailure, soak } from '../src/sequence.js'
import { hasQemu } from '../src/tools.js'

const seed = Number(process.env.IMG_SOAK_SEED ?? 2824)
// A seed with which twenty images have all that there is.
const images = 20
const rounds = 4
const able = hasQemu()
const can = able ? await abilities() : { encryption: false }
if (!able) console.warn('qemu-img or qemu-io is missing: no image is changed at random')

describe.skipIf(!able)('random changes by img and by QEMU (skipped without qemu-img and qemu-io)', () => {
  for (let index = 0; index < images; index++) {
    const image = caseOf(seed, index, can)
    it(titleOf(image), { timeout: 180_000 }, async () => {
      try {
        expect(await soak(image, rounds)).toBeGreaterThanOrEqual(rounds)
      } catch (error) {
        if (!(error instanceof SoakFailure)) throw error
        const again = `pnpm soak --seed ${seed} --case ${index} --rounds ${rounds}`
        throw new Error(`${error.message}\nagain: ${again}\n${JSON.stringify(error.rounds)}`, {
          cause: error,
        })
      }
    })
  }
})

it('meets every pair of cluster size and level', () => {
  const pairs = Array.from({ length: allPairs }, (_, index) => {
    const { clusterBits, compat, refcountBits } = caseOf(seed, index)
    return `${clusterBits} ${compat} ${refcountBits}`
  })
  expect(new Set(pairs).size).toBe(allPairs)
})
