import { readFileSync } from 'node:fs'
import { Failure, systemText } from '../errors.js'
import { parseOptionList } from '../option-list.js'

/**
 * Understands the secrets of `--object`: `secret,id=ID,file=PATH` or `data=TEXT`, with `format=base64` or `raw`, or the
 * same as a JSON object with `qom-type`.
 * @returns their bytes by id.
 * @throws {Failure} in QEMU's words.
 */
export function readObjects(
  definitions: readonly string[],
  warn: (message: string) => void,
): ReadonlyMap<string, Uint8Array> {
  const secrets = new Map<string, Uint8Array>()
  for (const definition of definitions) {
    const { id, bytes } = readObject(definition, warn)
    if (secrets.has(id)) {
      throw new Failure(`attempt to add duplicate property '${id}' to object (type 'container')`)
    }
    secrets.set(id, bytes)
  }
  return secrets
}

function properties(definition: string): Map<string, string> {
  if (definition.startsWith('{')) {
    try {
      const entries = Object.entries(JSON.parse(definition) as Record<string, unknown>)
      return new Map(entries.map(([name, value]) => [name, String(value)]))
    } catch {
      throw new Failure('--object: JSON parse error')
    }
  }
  const listed = parseOptionList([definition])
  const [first, ...others] = listed
  const named: [string, string][] = others.map(({ name, value }) => [name, value ?? 'on'])
  if (first === undefined) return new Map(named)
  // The first may be the type alone.
  return new Map([first.value === undefined ? ['qom-type', first.name] : [first.name, first.value], ...named])
}

function readObject(
  definition: string,
  warn: (message: string) => void,
): { readonly id: string; readonly bytes: Uint8Array } {
  const options = properties(definition)
  const take = (name: string): string | undefined => {
    const value = options.get(name)
    options.delete(name)
    return value
  }
  const type = take('qom-type')
  const id = take('id')
  if (type === undefined) throw new Failure("Parameter 'qom-type' is missing")
  if (type !== 'secret') {
    throw new Failure(`Parameter 'qom-type' does not accept value '${type}'`, {
      hint: 'objects of type secret are understood',
    })
  }
  if (id === undefined || id === '') throw new Failure("Parameter 'id' is missing")
  const data = take('data')
  const file = take('file')
  const format = take('format') ?? 'raw'
  if (format !== 'raw' && format !== 'base64') {
    throw new Failure(`Parameter 'format' does not accept value '${format}'`)
  }
  if (options.has('keyid') || options.has('iv')) {
    throw new Failure('a secret that is itself encrypted (keyid, iv) is not supported', {
      hint: 'decrypt it into a file or a pipe, and name that with file=',
    })
  }
  const [excess] = options.keys()
  if (excess !== undefined) throw new Failure(`Parameter '${excess}' is unexpected`)
  if (data !== undefined && file !== undefined) {
    throw new Failure("'file' and 'data' are mutually exclusive")
  }
  if (data !== undefined) {
    warn(`the secret '${id}' stands on the command line, where other users can read it: file= is safer`)
    return { id, bytes: decode(new TextEncoder().encode(data), format) }
  }
  if (file === undefined) throw new Failure("Either 'file' or 'data' must be provided")
  return { id, bytes: decode(readSecret(file), format) }
}

function readSecret(path: string): Uint8Array {
  try {
    return readFileSync(path)
  } catch (error) {
    const reason = systemText(error) ?? (error instanceof Error ? error.message : String(error))
    throw new Failure(`Unable to read ${path}: Failed to open file “${path}”: ${reason}`, { cause: error })
  }
}

function decode(bytes: Uint8Array, format: string): Uint8Array {
  if (format === 'raw') return bytes
  const text = new TextDecoder('latin1').decode(bytes).replaceAll(/\s/g, '')
  if (text === '' || text.length % 4 !== 0 || !/^[A-Za-z\d+/]*={0,2}$/.test(text)) {
    throw new Failure('Unable to parse base64 secret data')
  }
  return new Uint8Array(Buffer.from(text, 'base64'))
}
