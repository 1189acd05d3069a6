import type { IoOptions } from './storage.js'

/** One thing that a check found. */
export interface CheckFinding {
  /** `corruption`: data is, or will be, lost. `leak`: room is lost. `error`: this could not be checked. */
  readonly kind: 'corruption' | 'leak' | 'error'
  /** For people: one line, in the words of the format's own tool where there is one. */
  readonly message: string
  /** Where in the file, in bytes. */
  readonly offset?: number | undefined
  /** Bytes concerned. */
  readonly length?: number | undefined
  /** Repaired, or, with `dryRun`, what repair would do is to repair it. */
  readonly fixed?: boolean | undefined
}

/** Options of `check`. */
export interface CheckOptions extends IoOptions {
  /** What to repair: only leaks, which loses nothing, or all. The image has to be open for writing, but for `dryRun`. */
  readonly repair?: 'leaks' | 'all' | undefined
  /** Tells what repair would do; writes nothing. */
  readonly dryRun?: boolean | undefined
  /** Told of everything found, in order. */
  readonly onFinding?: ((finding: CheckFinding) => void) | undefined
}

/** What a check found, in the numbers that `qemu-img check` gives. */
export interface CheckResult {
  /** Things that could not be checked. */
  readonly checkErrors: number
  /** Corruptions found that are there still. */
  readonly corruptions: number
  /** Leaked clusters found that are there still. */
  readonly leaks: number
  /** Present where repair was asked for. */
  readonly corruptionsFixed?: number | undefined
  readonly leaksFixed?: number | undefined
  /** Bytes up to the end of the last cluster in use. */
  readonly imageEndOffset?: number | undefined
  /** Guest clusters: all, allocated, not following the one before, compressed. */
  readonly totalClusters?: number | undefined
  readonly allocatedClusters?: number | undefined
  readonly fragmentedClusters?: number | undefined
  readonly compressedClusters?: number | undefined
  /** The check could not go on: the numbers are of what it came to. `checkErrors` is not 0 then. */
  readonly stopped?: boolean | undefined
}
