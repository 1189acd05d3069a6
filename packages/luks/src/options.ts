import { type OptionSpecs, preallocations } from '@img/core'

/** How a LUKS disk is opened. */
export const openOptions: OptionSpecs = {
  'key-secret': { kind: 'string', help: 'ID of the secret that provides the keyslot passphrase' },
}

/** How a LUKS disk is made, under the names, and with the help, of qemu-img 7.2. */
export const createOptions: OptionSpecs = {
  size: { kind: 'size', help: 'Virtual disk size' },
  'key-secret': { kind: 'string', help: 'ID of the secret that provides the keyslot passphrase' },
  'cipher-alg': { kind: 'string', help: 'Name of encryption cipher algorithm' },
  'cipher-mode': { kind: 'string', help: 'Name of encryption cipher mode' },
  'ivgen-alg': { kind: 'string', help: 'Name of IV generator algorithm' },
  'ivgen-hash-alg': { kind: 'string', help: 'Name of IV generator hash algorithm' },
  'hash-alg': { kind: 'string', help: 'Name of encryption hash algorithm' },
  'iter-time': { kind: 'int', help: 'Time to spend in PBKDF in milliseconds' },
  // Of QEMU's file protocol. All of a new disk is written, whatever is asked for.
  preallocation: {
    kind: 'oneOf',
    values: preallocations,
    help: 'Preallocation mode (allowed values: off, metadata, falloc, full)',
    hidden: true,
  },
}

/** How key slots are changed, under the names, and with the help, of qemu-img 7.2. */
export const amendOptions: OptionSpecs = {
  'iter-time': { kind: 'int', help: 'Time to spend in PBKDF in milliseconds' },
  keyslot: { kind: 'int', help: 'Select a single keyslot to modify explicitly' },
  'new-secret': { kind: 'string', help: 'New secret to set in the matching keyslots. Empty string to erase' },
  'old-secret': { kind: 'string', help: 'Select all keyslots that match this password' },
  state: { kind: 'string', help: 'Select new state of affected keyslots (active/inactive)' },
}
