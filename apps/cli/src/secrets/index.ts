import type { SecretSource } from '@img/core'
import type { Command } from 'commander'
import { collect, type Options } from '../verb.js'

/** Adds `--object` and the options that give a passphrase. */
export function defineSecrets(command: Command): Command {
  return command
    .option('--object <definition>', "a secret as QEMU's: secret,id=ID,file=PATH (may be repeated)", collect)
    .option('--passphrase-file <path>', 'the passphrase of encrypted images is the first line of this file')
    .option('--passphrase-fd <number>', 'the same, read from an open file descriptor')
}

/**
 * The secrets that the command line gives. Objects are checked at once; a passphrase is read, or asked for on the
 * terminal, when an image needs it. `fresh`: for a new image, so it is asked
 * for twice.
 * @throws {Failure} in QEMU's words.
 */
export async function secretsOf(
  options: Options,
  warn: (message: string) => void,
  { fresh = false }: { readonly fresh?: boolean } = {},
): Promise<SecretSource> {
  const { object, passphraseFile, passphraseFd } = options
  if (object !== undefined || passphraseFile !== undefined || passphraseFd !== undefined) {
    return (await import('./source.js')).secretSource(options, warn, fresh)
  }
  // Nothing is loaded for images that are not encrypted.
  let source: SecretSource | undefined
  return async (id) => {
    source ??= (await import('./source.js')).secretSource(options, warn, fresh)
    return source(id)
  }
}
