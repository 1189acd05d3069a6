import { describe, expect, it } from 'vitest'
import { formatConformance } from '../src/index.js'
import { abort } from './broken/abort.js'
import { bitmapFaults } from './broken/bitmaps.js'
import { chains } from './broken/chains.js'
import { checkFaults } from './broken/check.js'
import { createFaults } from './broken/create.js'
import { extents } from './broken/extents.js'
import { hostile } from './broken/hostile.js'
import { identity } from './broken/identity.js'
import { lifecycle } from './broken/lifecycle.js'
import { measureFaults } from './broken/measure.js'
import { powerCut } from './broken/power-cut.js'
import { probe } from './broken/probe.js'
import { readStreamFaults } from './broken/read-stream.js'
import { reads } from './broken/reads.js'
import { references } from './broken/references.js'
import { snapshots } from './broken/snapshots.js'
import { streamFaults } from './broken/stream.js'
import { type Broken, runKit } from './broken/support.js'
import { writes } from './broken/writes.js'
import { toy } from './toy/format.js'

/** Broken formats by the group of the kit that has to find them. */
const broken: Readonly<Record<string, readonly Broken[]>> = {
  identity,
  probe,
  reads,
  extents,
  lifecycle,
  abort,
  references,
  hostile,
  snapshots,
  create: createFaults,
  writes,
  'power cut': powerCut,
  check: checkFaults,
  bitmaps: bitmapFaults,
  chains,
  stream: streamFaults,
  'read stream': readStreamFaults,
  measure: measureFaults,
}

for (const [group, formats] of Object.entries(broken)) {
  describe(`the group ${group}`, () => {
    it.each(formats)('finds a format that $what', async ({ format, subject, fault }) => {
      const results = await runKit({ format, ...subject }, group)
      const messages = results.flatMap(({ error }) => (error ? [error.message] : []))
      expect(messages).toEqual(expect.arrayContaining([expect.stringMatching(fault)]))
      for (const message of messages) expect(message.startsWith(`${group}: `)).toBe(true)
    })
  })
}

it('finds a broken format with each of its groups', async () => {
  const groups = new Set<string>()
  const path: string[] = []
  formatConformance(
    {
      describe(name, body) {
        path.push(name)
        body()
        path.pop()
      },
      it: () => groups.add(path.at(-1) ?? ''),
    },
    { format: toy },
  )
  expect(Object.keys(broken).sort()).toEqual([...groups].sort())
})
