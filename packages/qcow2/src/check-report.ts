import type { CheckFinding, CheckResult } from '@img/core'

/** Numbers of a check while it goes on; a repair takes some of them back. */
export interface CheckCounts {
  checkErrors: number
  corruptions: number
  leaks: number
  corruptionsFixed: number
  leaksFixed: number
}

/** What a check found so far: tells of each thing at once, and counts. */
export class CheckReport {
  counts: CheckCounts = { checkErrors: 0, corruptions: 0, leaks: 0, corruptionsFixed: 0, leaksFixed: 0 }
  /** Guest clusters of the active disk. */
  totalClusters: number | undefined
  allocatedClusters = 0
  fragmentedClusters = 0
  compressedClusters = 0
  imageEndOffset: number | undefined
  /** Entries that lead nowhere: what they stood for may lie in clusters that count as free. */
  lostEntries = 0
  readonly #onFinding: ((finding: CheckFinding) => void) | undefined

  constructor(onFinding?: (finding: CheckFinding) => void) {
    this.#onFinding = onFinding
  }

  /** Tells of something without counting it. */
  tell(finding: CheckFinding): void {
    this.#onFinding?.(finding)
  }

  /** Tells of data that is, or will be, lost, and counts it. */
  corruption(message: string, offset?: number, length?: number): void {
    this.counts.corruptions++
    this.tell({ kind: 'corruption', message, offset, length })
  }

  /** Tells of something that cannot be checked, and counts it. */
  error(message: string, offset?: number): void {
    this.counts.checkErrors++
    this.tell({ kind: 'error', message, offset })
  }

  /** The result as it is now. */
  result(repairing: boolean): CheckResult {
    const { checkErrors, corruptions, leaks, corruptionsFixed, leaksFixed } = this.counts
    return {
      checkErrors,
      corruptions,
      leaks,
      ...(repairing && { corruptionsFixed, leaksFixed }),
      imageEndOffset: this.imageEndOffset,
      totalClusters: this.totalClusters,
      allocatedClusters: this.allocatedClusters,
      fragmentedClusters: this.fragmentedClusters,
      compressedClusters: this.compressedClusters,
    }
  }
}

/** Ends a check that cannot go on; it has been told of. */
export class CheckStopped extends Error {}
