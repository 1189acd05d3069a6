import { alignDown, type CheckOptions, type CheckResult, type Driver, type IoOptions } from '@img/core'
import { checkImage } from './check.js'
import { type DriverParts, Qcow2Driver } from './driver.js'
import { SECTOR } from './limits.js'
import { readSnapshots } from './snapshot.js'
import { L2Cache } from './tables.js'

/** An image opened to be checked or repaired: damage is no reason to refuse it. It can be read as far as it goes. */
export class RepairDriver implements Driver {
  #parts: DriverParts
  #driver: Qcow2Driver

  constructor(parts: DriverParts) {
    this.#parts = parts
    this.#driver = new Qcow2Driver(parts)
  }

  get size(): number {
    return this.#driver.size
  }

  get map(): Driver['map'] {
    return this.#driver.map
  }

  get backing(): Driver['backing'] {
    return this.#driver.backing
  }

  get unreadable(): Driver['unreadable'] {
    return this.#driver.unreadable
  }

  get holes(): Driver['holes'] {
    return this.#driver.holes
  }

  get snapshots(): NonNullable<Driver['snapshots']> {
    return this.#driver.snapshots
  }

  info(options?: IoOptions): ReturnType<Driver['info']> {
    return this.#driver.info(options)
  }

  async check(options: CheckOptions): Promise<CheckResult> {
    const { image } = this.#parts
    const { result, header, repaired } = await checkImage(image.storage, image.header, options)
    if (repaired) {
      const size = alignDown(header.size, SECTOR)
      this.#parts = {
        ...this.#parts,
        image: { ...image, header, cache: new L2Cache(image.storage, 2 ** header.clusterBits) },
        snapshots: await readSnapshots(image.storage, header, size, options).catch(() => []),
      }
      this.#driver = new Qcow2Driver(this.#parts)
    }
    return result
  }

  close(): Promise<void> {
    return this.#driver.close()
  }
}
