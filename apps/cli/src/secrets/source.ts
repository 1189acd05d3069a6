import { readFileSync } from 'node:fs'
import { ImageError, type SecretSource } from '@img/core'
import { Failure, systemText } from '../errors.js'
import type { Options } from '../verb.js'
import { readObjects } from './objects.js'
import { askPassphrase, canAsk } from './prompt.js'

/**
 * Where the command gets secrets from. With an id: the object of that name. Without: `--passphrase-file`,
 * `--passphrase-fd`, the only object that there is, `IMG_PASSPHRASE`, or the terminal. The answer is kept.
 * `fresh`: for a new image, so the terminal is asked twice.
 * @throws {Failure}
 */
export function secretSource(options: Options, warn: (message: string) => void, fresh = false): SecretSource {
  const objects = readObjects((options.object as readonly string[] | undefined) ?? [], warn)
  if (options.passphraseFile !== undefined && options.passphraseFd !== undefined) {
    throw new Failure('--passphrase-file and --passphrase-fd are mutually exclusive')
  }
  let answer: Promise<Uint8Array> | undefined
  return (id) => {
    if (id !== undefined) return objects.get(id) ?? missing(id)
    answer ??= passphrase(options, objects, fresh)
    return answer
  }
}

function missing(id: string): never {
  throw new ImageError('IMG_SECRET_MISSING', `No secret with id '${id}'`, {
    hint: `give it: --object secret,id=${id},file=PATH`,
  })
}

async function passphrase(
  options: Options,
  objects: ReadonlyMap<string, Uint8Array>,
  fresh: boolean,
): Promise<Uint8Array> {
  const { passphraseFile: file, passphraseFd: fd } = options
  if (typeof file === 'string') return firstLine(file, file)
  if (typeof fd === 'string') {
    if (!/^\d+$/.test(fd)) throw new Failure('--passphrase-fd expects the number of a file descriptor')
    return firstLine(Number(fd), `file descriptor ${fd}`)
  }
  const [only, ...more] = objects.values()
  if (only !== undefined && more.length === 0) return only
  const { IMG_PASSPHRASE } = process.env
  if (IMG_PASSPHRASE !== undefined) return new TextEncoder().encode(IMG_PASSPHRASE)
  if (canAsk()) {
    const typed = await askPassphrase('Passphrase: ')
    if (fresh && !isSame(typed, await askPassphrase('Again: '))) {
      throw new Failure('the two passphrases are not the same')
    }
    return typed
  }
  throw new ImageError('IMG_SECRET_MISSING', "Parameter 'encrypt.key-secret' is required for cipher", {
    hint: 'give the passphrase with --passphrase-file, --passphrase-fd, --object secret,… or IMG_PASSPHRASE',
  })
}

function isSame(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i])
}

/** What stands before the first end of line: files that editors and `echo` write have one. @throws {Failure} */
function firstLine(from: string | number, label: string): Uint8Array {
  let bytes: Uint8Array
  try {
    bytes = readFileSync(from)
  } catch (error) {
    const reason = systemText(error) ?? (error instanceof Error ? error.message : String(error))
    throw new Failure(`Could not read the passphrase from ${label}: ${reason}`, { cause: error })
  }
  const newline = bytes.indexOf(0x0a)
  const end = newline < 0 ? bytes.length : newline > 0 && bytes[newline - 1] === 0x0d ? newline - 1 : newline
  return bytes.slice(0, end)
}
