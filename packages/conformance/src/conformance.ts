import { abort } from './groups/abort.js'
import { bitmaps } from './groups/bitmaps.js'
import { chains } from './groups/chains.js'
import { checks } from './groups/check.js'
import { create } from './groups/create.js'
import { extents } from './groups/extents.js'
import { hostile } from './groups/hostile.js'
import { identity } from './groups/identity.js'
import { lifecycle } from './groups/lifecycle.js'
import { measure } from './groups/measure.js'
import { powerCut } from './groups/power-cut.js'
import { probe } from './groups/probe.js'
import { readStream } from './groups/read-stream.js'
import { reads } from './groups/reads.js'
import { references } from './groups/references.js'
import { snapshots } from './groups/snapshots.js'
import { stream } from './groups/stream.js'
import { writes } from './groups/writes.js'
import { Kit } from './kit.js'
import { type It, itOf, type Runner } from './runner.js'
import type { Subject } from './subject.js'

/** All groups in order: each defines its tests, or none where the format has nothing for them. */
const groups: Readonly<Record<string, (kit: Kit, it: It) => void>> = {
  identity,
  probe,
  reads,
  extents,
  lifecycle,
  abort,
  references,
  hostile,
  snapshots,
  create,
  writes,
  'power cut': powerCut,
  check: checks,
  bitmaps,
  chains,
  stream,
  'read stream': readStream,
  measure,
}

/**
 * Defines the tests that every format has to pass, with the runner given. What is tested follows from the members that
 * the format and its drivers have; there is no list of exceptions.
 * @throws {TypeError} for a format that can neither make images nor has samples.
 * @example
 * import { describe, it } from 'vitest'
 * formatConformance({ describe, it }, { format: qcow2 })
 */
export function formatConformance(runner: Runner, subject: Subject): void {
  const kit = new Kit(subject)
  runner.describe(`conformance of ${subject.format.name}`, () => {
    for (const [name, define] of Object.entries(groups)) {
      const tests: Parameters<It>[] = []
      define(kit, (...test) => tests.push(test))
      // Some runners take a group without tests for a fault.
      if (tests.length === 0) continue
      runner.describe(name, () => {
        const it = itOf(runner, name)
        for (const [title, body] of tests) it(title, body)
      })
    }
  })
}
