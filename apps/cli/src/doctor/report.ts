import type { Reference } from '@img/core'

/**
 * How much a finding matters. `problem`: the image is damaged, or cannot be read as it is. `risk`: it can, but is not to be
 * trusted without a look. `note`: good to know.
 */
export type Level = 'problem' | 'risk' | 'note'

/** One thing that the doctor found. */
export interface Finding {
  readonly level: Level
  /** Stable name, for scripts. */
  readonly id: string
  /** One line for people. */
  readonly message: string
  /** What to do. */
  readonly hint?: string | undefined
  /** Byte of the file. */
  readonly offset?: number | undefined
}

/** What became of a file that an image names. */
export interface ReferenceReport {
  readonly kind: Reference['kind']
  /** The name as it stands in the image. */
  readonly name: string
  /** The image that names it. */
  readonly from: string
  /** The format recorded beside the name. */
  readonly format?: string | undefined
  /** Where the format comes from: the image, or a look at the file itself. */
  readonly formatFrom?: 'recorded' | 'guessed' | undefined
  readonly state: 'found' | 'missing' | 'not-opened' | 'unreadable'
  /** The file, where it was opened. */
  readonly path?: string | undefined
}

/** A part of the disk and what is in it. */
export interface ContentReport {
  /** `disk` for the whole, else as Linux counts partitions. */
  readonly part: 'disk' | number
  readonly offset: number
  readonly size: number
  /** Partition type: `0x83`, a GUID. */
  readonly type?: string | undefined
  /** Name in the partition table. */
  readonly name?: string | undefined
  /** File system, volume manager or encryption found there. */
  readonly holds?: string | undefined
  readonly label?: string | undefined
}

/** What was found to read an image with. */
export interface PluginReport {
  readonly name: string
  readonly version?: string | undefined
  readonly origin: string
  readonly path: string
}

/** Everything that `img doctor` tells. */
export interface DoctorReport {
  readonly file: string
  readonly kind: 'file' | 'device' | 'url'
  /** Bytes of the file. */
  readonly fileSize: number
  /** Bytes allocated by the host. */
  hostSize?: number | undefined
  /** Name of the format; of a foreign one, where no plugin reads it. */
  format?: string | undefined
  title?: string | undefined
  /** What the file was recognised by; `named` where `-f` said it. */
  recognised?: 'signature' | 'content' | 'named' | 'nothing' | undefined
  signature?: { readonly offset: number; readonly hex: string } | undefined
  plugin?: PluginReport | undefined
  /** The package to install, where the plugin is not here. */
  install?: string | undefined
  /** Words about the format's own flavour: `compat: 1.1`. */
  readonly details: string[]
  /** Bytes that the guest sees. */
  virtualSize?: number | undefined
  /** Bytes of them that hold data of this image or those beneath it. */
  dataSize?: number | undefined
  encrypted?: boolean | undefined
  /** True where the disk's content can be read with what is at hand. */
  readable?: boolean | undefined
  checked?: boolean | undefined
  readonly references: ReferenceReport[]
  readonly content: ContentReport[]
  partitionTable?: 'mbr' | 'gpt' | undefined
  readonly findings: Finding[]
}

/** Adds a finding, unless the same was said. */
export function find(report: DoctorReport, finding: Finding): void {
  const said = report.findings.some(({ id, message }) => id === finding.id && message === finding.message)
  if (!said) report.findings.push(finding)
}

/** `damaged` where there is a problem, `unsafe` where there are only risks. */
export function verdict(report: DoctorReport): 'healthy' | 'damaged' | 'unsafe' {
  const has = (level: Level): boolean => report.findings.some((finding) => finding.level === level)
  return has('problem') ? 'damaged' : has('risk') ? 'unsafe' : 'healthy'
}

/** Exit codes of `img doctor`; 1 is for a file that cannot be looked at. */
export const exitCodes = { healthy: 0, damaged: 2, unsafe: 3 } as const
