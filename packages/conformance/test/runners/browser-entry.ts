import { reads } from '../broken/reads.js'
import { runKit } from '../broken/support.js'
import { toy } from '../toy/format.js'

/** Runs the kit in a page; tells what failed. */
async function run(): Promise<{
  readonly tests: number
  readonly failed: string[]
  readonly broken: string[]
}> {
  const results = await runKit({ format: toy })
  const [format] = reads
  const broken = format ? await runKit({ format: format.format }, 'reads') : []
  const told = (all: typeof results): string[] => all.flatMap(({ error }) => (error ? [error.message] : []))
  return { tests: results.length, failed: told(results), broken: told(broken) }
}

Object.assign(globalThis, { conformance: run })
