import type { Allocation, ClusterMap, ClusterRun, ImageError, Storage } from '@img/core'
import { sectorBytes } from '@img/crypto'

/** Every guest byte is at its own place in the decrypted payload. */
export class LuksMap implements ClusterMap {
  readonly clusterSize: number = sectorBytes
  readonly #payload: Storage
  readonly allocate?: (offset: number, length: number) => Allocation

  /** @param payload the decrypted disk */
  constructor(payload: Storage, writable: boolean) {
    this.#payload = payload
    if (writable) this.allocate = (offset, length) => ({ storage: payload, hostOffset: offset, length })
  }

  lookup(offset: number, maxLength: number): ClusterRun {
    return { kind: 'data', length: maxLength, storage: this.#payload, hostOffset: offset }
  }
}

/** The map of a disk that cannot be read: whoever asks gets the reason. */
export function refusingMap(reason: ImageError): ClusterMap {
  return {
    clusterSize: sectorBytes,
    lookup() {
      throw reason
    },
  }
}
