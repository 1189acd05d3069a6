import { ImageError } from '@img/core'

/** What a name inside an image means, in QEMU's reading. */
export interface ReferenceName {
  /** Path, relative or absolute. */
  readonly path: string
  /** Format that the name itself tells. */
  readonly format?: string | undefined
  /** What the name tells for opening that format: which secret unlocks it. */
  readonly options?: Readonly<Record<string, string>> | undefined
  /** True where QEMU takes a relative path from the working directory in place of the image's. */
  readonly fromWorkingDirectory: boolean
}

/**
 * The prefix that makes a name a protocol's to QEMU: what stands before a colon that comes before any slash (`nbd`,
 * `https`, `json`, `file`). On Windows a single letter is a drive.
 */
export function protocolOf(name: string): string | undefined {
  const prefix = /^([^:/]*):/.exec(name)?.[1]
  if (prefix === undefined) return undefined
  return process.platform === 'win32' && /^[a-z]$/i.test(prefix) ? undefined : prefix
}

/**
 * Understands a name in every form that leads to a local file: a path, `file:PATH`, and `json:{…}` with a format driver
 * over the file driver, nested or with dotted keys. Only for callers that allow references of every kind.
 * @throws {ImageError} IMG_UNSUPPORTED for another protocol, driver or option; IMG_CORRUPT for JSON that is none.
 */
export function parseReferenceName(name: string): ReferenceName {
  const protocol = protocolOf(name)
  if (protocol === undefined) return { path: name, fromWorkingDirectory: false }
  const rest = name.slice(protocol.length + 1)
  // QEMU hands these to the file driver as they are: what is relative counts from its own directory.
  if (protocol === 'file') return { path: rest, fromWorkingDirectory: true }
  if (protocol === 'json') return { ...parseJsonName(rest), fromWorkingDirectory: true }
  throw new ImageError(
    'IMG_UNSUPPORTED',
    `the name ${JSON.stringify(name)} needs the protocol ${protocol}, which is not supported`,
    {
      hint: 'make a local copy of that image and rebase to it',
    },
  )
}

/** Drivers that are the file itself, with no format over it. */
const fileDrivers: readonly string[] = ['file', 'host_device']

/** Keys that say how an image is unlocked, under the names of its open options. */
const unlocking: readonly string[] = ['key-secret', 'encrypt.key-secret', 'encrypt.format']

function parseJsonName(text: string): Omit<ReferenceName, 'fromWorkingDirectory'> {
  const keys = flatten(text)
  const driver = take(keys, 'driver')
  const bare = driver !== undefined && fileDrivers.includes(driver)
  const fileDriver = bare ? driver : take(keys, 'file.driver')
  const path = take(keys, bare ? 'filename' : 'file.filename')
  const options: Record<string, string> = {}
  for (const key of bare ? [] : unlocking) {
    const value = take(keys, key)
    if (value !== undefined) options[key] = value
  }
  const [unknown] = keys.keys()
  if (unknown !== undefined) throw unsupported(`the key ${JSON.stringify(unknown)}`)
  if (fileDriver !== undefined && !fileDrivers.includes(fileDriver))
    throw unsupported(`the driver ${JSON.stringify(fileDriver)}`)
  if (path === undefined) throw unsupported(`no ${bare ? 'filename' : 'file.filename'}`)
  return { path, format: bare ? 'raw' : driver, ...(Object.keys(options).length > 0 && { options }) }
}

function take(keys: Map<string, unknown>, key: string): string | undefined {
  const value = keys.get(key)
  keys.delete(key)
  if (value !== undefined && typeof value !== 'string')
    throw unsupported(`the key ${JSON.stringify(key)} with no text`)
  return value
}

/** `{"file": {"filename": "a"}}` and `{"file.filename": "a"}` are the same. */
function flatten(text: string): Map<string, unknown> {
  const keys = new Map<string, unknown>()
  const add = (prefix: string, value: unknown): void => {
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
      for (const [key, inner] of Object.entries(value)) add(prefix === '' ? key : `${prefix}.${key}`, inner)
    } else if (keys.has(prefix)) throw unsupported(`the key ${JSON.stringify(prefix)} twice`)
    else keys.set(prefix, value)
  }
  let parsed: unknown
  try {
    parsed = JSON.parse(text)
  } catch (cause) {
    throw new ImageError('IMG_CORRUPT', `the name json:${text} is not valid JSON`, { cause })
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) throw unsupported('no object')
  add('', parsed)
  return keys
}

function unsupported(what: string): ImageError {
  return new ImageError('IMG_UNSUPPORTED', `a json: name with ${what} is not supported`, {
    hint: 'supported are driver, file.driver (file, host_device), file.filename, filename with driver file, and encrypt.key-secret',
  })
}
