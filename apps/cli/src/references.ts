import { delimiter } from 'node:path'
import type { ReferenceResolver } from '@img/core'
import { nodeReferences, type Target } from '@img/node'
import type { Context } from './context.js'
import { openSourceStorage } from './source-storage.js'

/** What `--allow-ref` and `IMG_ALLOW_REF` allow: directories, or everything. */
export function allowedReferences(context: Context): 'all' | readonly string[] {
  const environment = process.env.IMG_ALLOW_REF ?? ''
  const allowed = [...(context.globals.allowRef ?? []), ...environment.split(delimiter)].filter(
    (each) => each !== '',
  )
  return allowed.includes('all') ? 'all' : allowed
}

/** The gate for the files that images name. */
export function references(
  context: Context,
  options: {
    readonly shared?: boolean | undefined
    readonly onCreate?: ((target: Target) => void) | undefined
    /** Names come from the user, not from an image. */
    readonly everything?: boolean | undefined
  } = {},
): ReferenceResolver {
  const { shared, onCreate, everything } = options
  const allow = everything === true ? 'all' : allowedReferences(context)
  const gate = nodeReferences({ shared, onCreate, allow })
  return {
    ...gate,
    async open(reference, from, how) {
      const label = context.namedFiles.get(reference.name)
      if (label === undefined) return gate.open(reference, from, how)
      const lock = shared === true && !how.writable ? ('shared' as const) : undefined
      return { storage: await openSourceStorage(reference.name, { ...how, label, lock }) }
    },
  }
}
