import { delimiter } from 'node:path'
import { describe, ImageError, type Reference, type ReferenceResolver, type Storage } from '@img/core'
import { nodeReferences, protocolOf, type Target } from '@img/node'
import type { Context } from './context.js'
import { isUrl, openSourceStorage, urlOf } from './source-storage.js'

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
  const gate = nodeReferences({
    shared,
    onCreate,
    allow: allow === 'all' ? allow : allow.filter((place) => !isUrl(place)),
  })
  return {
    ...gate,
    async open(reference, from, how) {
      const label = context.namedFiles.get(reference.name)
      if (label !== undefined) {
        const lock = shared === true && !how.writable ? ('shared' as const) : undefined
        return { storage: await openSourceStorage(reference.name, { ...how, label, lock }) }
      }
      const url = urlNamed(reference, from)
      if (url === undefined) return gate.open(reference, from, how)
      if (!allowsUrl(allow, url)) throw denied(reference, from, url)
      return { storage: await openSourceStorage(url, how) }
    },
  }
}

/** The URL that a reference means: its own, or one beside an image that is on a web server. */
function urlNamed({ name, signatures }: Reference, from: Storage): string | undefined {
  if (isUrl(name)) return name
  const base = urlOf(from)
  const relative = signatures === undefined && name !== '' && !/^[/\\]/.test(name)
  if (base === undefined || !relative || protocolOf(name) !== undefined) return undefined
  return new URL(name.split('/').map(encodeURIComponent).join('/'), base).href
}

/** True for what was allowed: everything, or a URL at the beginning of this one, up to a slash. */
function allowsUrl(allow: 'all' | readonly string[], url: string): boolean {
  if (allow === 'all') return true
  const { origin, pathname } = new URL(url)
  return allow.filter(isUrl).some((place) => {
    const allowed = new URL(place)
    const within = pathname.startsWith(allowed.pathname.replace(/\/?$/, '/'))
    return origin === allowed.origin && (within || pathname === allowed.pathname)
  })
}

function denied(reference: Reference, from: Storage, url: string): ImageError {
  return new ImageError(
    'IMG_REFERENCE_DENIED',
    `${from.label} refers to ${describe(reference)}, which is on a web server: not opened`,
    {
      source: from.label,
      hint: `if you trust this image, allow it with --allow-ref ${new URL('.', url).href} or --allow-ref all`,
    },
  )
}
