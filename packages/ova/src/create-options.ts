import { ImageError, type OptionsOf } from '@img/core'
import { profiles } from './profiles.js'

/** How a package is made. */
export const createOptions = {
  profile: {
    kind: 'oneOf',
    values: ['esxi6', 'esxi7', 'esxi8', 'workstation', 'virtualbox'],
    default: 'esxi7',
    help: 'Who is to import it: esxi6, esxi7 (default), esxi8, workstation or virtualbox',
  },
  name: { kind: 'string', help: "Name of the machine (default: the target's)" },
  cpus: { kind: 'int', default: 1, min: 1, max: 768, help: 'Processors of the machine' },
  memory: {
    kind: 'size',
    default: 2147483648,
    min: 4194304,
    max: 26388279066624,
    help: 'Memory of the machine, a whole number of MiB',
  },
  os: {
    kind: 'oneOf',
    values: ['other', 'linux', 'debian', 'ubuntu', 'rhel', 'freebsd', 'windows'],
    default: 'other',
    help: 'Guest operating system, 64 bits: other (default), linux, debian, ubuntu, rhel, freebsd or windows',
  },
  firmware: { kind: 'oneOf', values: ['bios', 'efi'], default: 'bios', help: 'bios (default) or efi' },
  controller: {
    kind: 'oneOf',
    values: ['ide', 'sata', 'lsilogic', 'pvscsi'],
    help: 'ide, sata, lsilogic or pvscsi (default: sata for virtualbox, else lsilogic)',
  },
  nic: {
    kind: 'oneOf',
    values: ['none', 'e1000', 'e1000e', 'vmxnet3', 'pcnet32'],
    default: 'e1000',
    help: 'Network adapter: none, e1000 (default), e1000e, vmxnet3 or pcnet32',
  },
  network: { kind: 'string', help: "Name of its network (default: the profile's)" },
  hwversion: { kind: 'string', help: "Type of the virtual hardware, as vmx-17 (default: the profile's)" },
  annotation: { kind: 'string', help: 'A description, for whoever imports it' },
  digest: {
    kind: 'oneOf',
    values: ['sha1', 'sha256', 'sha512', 'off'],
    help: 'Digests of the manifest: sha1 (default for virtualbox and esxi6), sha256 (default), sha512 or off',
  },
  compression_level: { kind: 'int', min: 0, max: 9, help: 'DEFLATE level of the disks, 0 to 9 (default 6)' },
} as const

/** Checked values of {@link createOptions}. */
export type CreateOptionValues = OptionsOf<typeof createOptions>

/** A machine to be described. */
export interface NewMachine {
  readonly profile: CreateOptionValues['profile']
  readonly name: string
  readonly cpus: number
  /** MiB. */
  readonly memory: number
  readonly os: CreateOptionValues['os']
  readonly firmware: CreateOptionValues['firmware']
  readonly controller: NonNullable<CreateOptionValues['controller']>
  /** Absent for none. */
  readonly nic: Exclude<CreateOptionValues['nic'], 'none'> | undefined
  readonly network: string
  readonly hardware: string
  readonly annotation: string | undefined
  readonly digest: 'SHA1' | 'SHA256' | 'SHA512' | undefined
  readonly level: number | undefined
}

/** An option, or options together, that cannot be. */
export function badOption(message: string, hint?: string): ImageError {
  return new ImageError('IMG_BAD_OPTION', message, { format: 'ova', hint })
}

/**
 * What the options ask for. `target`: name of the file to be made.
 * @throws {ImageError} IMG_BAD_OPTION.
 */
export function newMachine(options: Readonly<Record<string, unknown>>, target: string): NewMachine {
  const values = options as CreateOptionValues
  const profile = profiles[values.profile]
  const { firmware, memory } = values
  const virtualBox = values.profile === 'virtualbox'
  const controller = values.controller ?? profile.controller
  if (memory % 2 ** 20 !== 0) throw badOption("Parameter 'memory' expects a whole number of MiB")
  if (virtualBox && firmware === 'efi') {
    throw badOption('an OVF cannot tell VirtualBox of EFI', 'switch it on after the import')
  }
  if (virtualBox && (controller === 'pvscsi' || ['vmxnet3', 'e1000e'].includes(values.nic))) {
    throw badOption('VirtualBox has no such hardware', 'take controller=sata and nic=e1000')
  }
  const { hwversion } = values
  if (hwversion !== undefined && !/^[A-Za-z0-9][A-Za-z0-9._-]*$/.test(hwversion)) {
    throw badOption("Parameter 'hwversion' expects a name such as vmx-17")
  }
  const digest = values.digest ?? profile.digest
  const name = values.name ?? stem(target)
  if (name.trim() === '') throw badOption("Parameter 'name' expects a name")
  return {
    profile: values.profile,
    name: plain('name', name),
    cpus: values.cpus,
    memory: memory / 2 ** 20,
    os: values.os,
    firmware,
    controller,
    nic: values.nic === 'none' ? undefined : values.nic,
    network: plain('network', values.network ?? profile.network),
    hardware: hwversion ?? profile.hardware,
    annotation: values.annotation === undefined ? undefined : plain('annotation', values.annotation, true),
    digest: digest === 'off' ? undefined : (digest.toUpperCase() as NewMachine['digest']),
    level: values.compression_level,
  }
}

function stem(target: string): string {
  const name = target.replace(/^.*[/\\]/, '').replace(/\.(ova|ovf|tar)$/i, '')
  // biome-ignore lint/suspicious/noControlCharactersInRegex: XML has no place for them.
  return name.replace(/[\u0000-\u001f\u007f\ufffe\uffff]/g, '').trim() || 'machine'
}

/** Text that XML can hold. */
function plain(option: string, text: string, lines = false): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: XML has no place for them.
  const bad = lines ? /[\u0000-\u0008\u000b-\u001f\ufffe\uffff]/ : /[\u0000-\u001f\ufffe\uffff]/
  if (bad.test(text) || /\p{Surrogate}/u.test(text)) {
    throw badOption(`Parameter '${option}' has characters that a descriptor cannot hold`)
  }
  return text
}
