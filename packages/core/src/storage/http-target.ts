/** Where an HTTP storage reads from. */
export interface HttpTarget {
  /** Without user, password and fragment. */
  readonly href: string
  /** For messages: without what may be secret, the query included. */
  readonly label: string
  /** The Authorization header that stands for user and password in the URL. */
  readonly authorization: string | undefined
}

/** Headers that a redirect to another origin must not take along: those that a browser would drop too. */
const secretHeaders = ['authorization', 'cookie', 'proxy-authorization', 'host'] as const

/**
 * Takes a URL apart. A relative one is relative to the page.
 * @param anyScheme schemes other than http and https are the caller's own `fetch`'s to understand
 * @throws {TypeError} for what is no URL, or is none that can be fetched. The URL is not repeated: it may hold a password.
 */
export function parseTarget(url: string | URL, anyScheme: boolean): HttpTarget {
  const parsed = parse(url)
  if (!anyScheme && parsed.protocol !== 'http:' && parsed.protocol !== 'https:') {
    const instead =
      parsed.protocol === 'file:' ? 'open it as a file' : 'give a fetch function that understands it'
    throw new TypeError(`${parsed.protocol} is not http: or https:; ${instead}`)
  }
  const { username, password } = parsed
  parsed.username = ''
  parsed.password = ''
  parsed.hash = ''
  return {
    href: parsed.href,
    label: `${parsed.protocol}//${parsed.host}${parsed.pathname}${parsed.search === '' ? '' : '?…'}`,
    authorization: username === '' && password === '' ? undefined : basic(username, password),
  }
}

/** The headers of a request to `href`: all of them for the origin that the caller named, none of the secret ones else. */
export function headersFor(href: string, target: HttpTarget, headers: Headers): Headers {
  const own = new Headers(headers)
  if (new URL(href).origin !== new URL(target.href).origin) for (const name of secretHeaders) own.delete(name)
  else if (target.authorization !== undefined && !own.has('authorization')) {
    own.set('authorization', target.authorization)
  }
  return own
}

function parse(url: string | URL): URL {
  const page = globalThis as { document?: { baseURI?: string }; location?: { href?: string } }
  try {
    return new URL(url, page.document?.baseURI ?? page.location?.href)
  } catch {
    throw new TypeError('this is not a URL')
  }
}

/** RFC 7617: user and password as UTF-8, Base64. */
function basic(username: string, password: string): string {
  const text = new TextEncoder().encode(`${decode(username)}:${decode(password)}`)
  return `Basic ${btoa(String.fromCharCode(...text))}`
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}
