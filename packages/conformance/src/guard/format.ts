import type { Driver, Format, SnapshotStore } from '@img/core'
import { check } from '../fault.js'
import { delegate } from './delegate.js'
import { guardMap, isOffset, type Watch } from './map.js'
import { guardWriter } from './writer.js'

/** The same format, with everything that it gives to core checked against the contract. */
export function guardFormat(format: Format, watch: Watch): Format {
  return delegate(format, {
    open: (open) => async (storage, context) => guardDriver(await open(storage, context), watch),
    create: (create) => async (target, spec, context) =>
      guardWriter(await create(target, spec, context), spec.size),
  })
}

function guardDriver(driver: Driver, watch: Watch): Driver {
  check(isOffset(driver.size), `the driver's size is ${driver.size}`)
  const { clusterSize } = driver.map
  check(isOffset(clusterSize) && clusterSize > 0, `the map's clusterSize is ${clusterSize}`)
  return delegate(driver, {
    map: (map) => guardMap(map, watch),
    snapshots: (store): SnapshotStore<Driver> =>
      delegate(store, {
        open: (open) => async (idOrName, options) => guardDriver(await open(idOrName, options), watch),
      }),
  })
}
