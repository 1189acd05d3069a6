import { measure as measureWith } from '@img/core'
import { deviceOf, mixedDisk, smallDisk } from '../content.js'
import { check, works } from '../fault.js'
import { type Kit, nameOf } from '../kit.js'
import { fullDisk } from '../overlays.js'
import type { It } from '../runner.js'
import { SparseBytes } from '../sparse-bytes.js'

/** Telling how large a file would be: never less than it then is. */
export function measure(kit: Kit, it: It): void {
  const { format } = kit.subject
  if (format.measure === undefined || format.createOptions === undefined) return
  for (const values of kit.variants) {
    it(`tells sizes that images made with ${nameOf(values)} fit into`, async () => {
      const unit = await kit.unit(values)
      const disks: readonly (readonly [string, SparseBytes])[] = [
        ['an empty disk', new SparseBytes(unit * 10)],
        ['a small disk', smallDisk(unit)],
        ['a disk with holes', mixedDisk(unit)],
        ['a full disk', fullDisk(unit * 6 + 512)],
      ]
      for (const [name, content] of disks) {
        const { size } = content
        const { required, fullyAllocated } = await works(`measuring ${name}`, () =>
          measureWith(format, deviceOf(content), { options: values }),
        )
        for (const [what, value] of [
          ['required', required],
          ['fullyAllocated', fullyAllocated],
        ] as const) {
          check(Number.isSafeInteger(value) && value >= 0, `${name}: ${what} is ${value}`)
        }
        check(
          required <= fullyAllocated,
          `${name}: required (${required}) is more than fullyAllocated (${fullyAllocated})`,
        )
        const bare = await works(`measuring ${size} bytes`, () =>
          measureWith(format, { size }, { options: values }),
        )
        check(
          bare.required <= required,
          `${name}: without data, required is ${bare.required}, with data less: ${required}`,
        )
        check(
          bare.fullyAllocated === fullyAllocated,
          `${name}: fullyAllocated is ${bare.fullyAllocated} by size and ${fullyAllocated} by data`,
        )
        const files = await kit.make(content.fork(), { values })
        // Whether other files are counted, and their holes, is the format's own business.
        const file = files.main.size
        check(file <= required, `${name}: the image takes ${file} bytes, measured were ${required}`)
      }
    })
  }
}
