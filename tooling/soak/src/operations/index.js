import { bitmap } from './bitmaps.js'
import { commitIt, rebaseIt } from './chain.js'
import { discard, flush, reopen, together, write, zero } from './changes.js'
import { qemuAmend, qemuWrite } from './qemu.js'
import { resize } from './resize.js'
import { snapshot } from './snapshots.js'
import { amend, compact, compressed, repair } from './upkeep.js'

/**
 * @typedef {object} Operation
 * @property {string} name
 * @property {number} weight how often it is chosen
 * @property {(subject: import('../subject.js').Subject, step?: object) => boolean} [possible] whether it can be done now
 * @property {(subject: import('../subject.js').Subject, random: import('../random.js').Random) => object} plan
 * chooses what to do, as plain values that can be printed and done again
 * @property {(subject: import('../subject.js').Subject, step: object) => Promise<void>} run does it, to image and model
 */

/** @type {readonly Operation[]} */
export const operations = [
  write,
  zero,
  discard,
  flush,
  reopen,
  together,
  resize,
  snapshot,
  qemuWrite,
  qemuAmend,
  compressed,
  amend,
  compact,
  repair,
  rebaseIt,
  commitIt,
  bitmap,
]
