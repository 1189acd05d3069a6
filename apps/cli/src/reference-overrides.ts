import type { OpenedReference, ReferenceResolver, Storage } from '@img/core'
import type { ImageOptions } from './image-opts.js'
import { openSourceStorage } from './source-storage.js'

/**
 * A gate that opens what the command line names (`backing.file.filename=…`, `data-file.filename=…`) instead of what the
 * images do; all else goes through the gate beneath. Those names are the user's own: nothing has to allow them.
 * @param understand the format of an image, and the values of its open options
 */
export function withOverrides(
  gate: ReferenceResolver,
  top: ImageOptions,
  understand: (said: ImageOptions) => Promise<Omit<OpenedReference, 'storage'>>,
): ReferenceResolver {
  /** Images down the chain that were opened by such names, with what was said of them. */
  const opened = new Map<Storage, ImageOptions>()
  let first: Storage | undefined
  return {
    ...gate,
    async open(reference, from, options) {
      first ??= from
      const said = from === first ? top : opened.get(from)
      const lock = said?.shared === true ? ('shared' as const) : undefined
      if (reference.kind === 'data' && said?.dataFile !== undefined) {
        return { storage: await openSourceStorage(said.dataFile, { writable: options.writable, lock }) }
      }
      const backing = reference.kind === 'backing' ? said?.backing : undefined
      if (backing === undefined) return gate.open(reference, from, options)
      const named = await understand(backing)
      const storage = await openSourceStorage(backing.path, { writable: options.writable, lock })
      opened.set(storage, backing)
      return { storage, ...named }
    },
  }
}
