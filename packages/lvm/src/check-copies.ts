import { ImageError } from '@img/core'
import { parseConfig } from './config-text.js'
import type { Findings } from './findings.js'
import type { GroupSession } from './group-session.js'
import type { Area } from './label.js'
import { readMetadataText } from './metadata-area.js'
import { emptyHeader, writeMetadata } from './metadata-writer.js'
import type { FoundPv } from './scan.js'
import { volumeGroupOf } from './volume-group.js'

/** One copy of the metadata. */
interface Copy {
  readonly pv: FoundPv
  readonly area: Area
  /** Undefined where the area holds none. */
  readonly text?: string | undefined
  readonly sequence?: number | undefined
  readonly fault?: ImageError | undefined
}

/**
 * Compares the copies of the metadata of all metadata areas with the newest. Repair writes the newest over those that are
 * older or damaged, where the group may be changed at all.
 */
export async function checkCopies(session: GroupSession, findings: Findings): Promise<void> {
  const { group, present } = session
  const copies: Copy[] = []
  for (const pv of present.values()) {
    for (const area of pv.label.metadataAreas) copies.push(await readCopy(pv, area))
  }
  const newest = copies.find(({ sequence }) => sequence === group.sequence)
  const repairing = findings.options.repair === 'all'
  const refusal = repairing ? refusalOf(session) : undefined
  if (refusal !== undefined) findings.add('error', `cannot be repaired: ${refusal.message}`)
  for (const copy of copies) {
    const wrong = faultOf(copy, newest)
    if (wrong === undefined) continue
    const name = [...present].find(([, pv]) => pv === copy.pv)?.[0]
    const what = `metadata area of ${name} at ${copy.pv.offset + copy.area.offset}: ${wrong}`
    const place = { offset: copy.pv.offset + copy.area.offset }
    const fixable = repairing && refusal === undefined && newest?.text !== undefined && copy.area.size > 0
    if (!fixable) {
      findings.add('corruption', what, place)
      continue
    }
    if (findings.options.dryRun !== true) await restore(copy, newest.text as string, findings)
    findings.add('corruption', what, { ...place, fixed: true })
  }
}

async function readCopy(pv: FoundPv, area: Area): Promise<Copy> {
  try {
    const text = await readMetadataText(pv.storage, area)
    if (text === undefined) return { pv, area }
    return { pv, area, text, sequence: volumeGroupOf(parseConfig(text, pv.disk), pv.disk).sequence }
  } catch (fault) {
    if (!ImageError.is(fault)) throw fault
    return { pv, area, fault }
  }
}

function faultOf({ text, sequence, fault }: Copy, newest: Copy | undefined): string | undefined {
  if (fault !== undefined) return fault.message
  // An area that is marked as ignored, or was never written.
  if (text === undefined || newest?.sequence === undefined) return undefined
  if (sequence !== newest.sequence)
    return `it is at sequence number ${sequence}, the newest at ${newest.sequence}`
  return text === newest.text
    ? undefined
    : `it has the sequence number ${sequence} of another copy, but says otherwise`
}

function refusalOf(session: GroupSession): ImageError | undefined {
  try {
    session.assertWritable()
    return undefined
  } catch (error) {
    if (!ImageError.is(error)) throw error
    return error
  }
}

async function restore({ pv, area, fault }: Copy, text: string, { options }: Findings): Promise<void> {
  const { storage } = pv
  if (fault !== undefined) {
    // Nothing in it can be trusted: neither where the text is, nor that there is one.
    await storage.write?.(area.offset, emptyHeader(area), options)
    await storage.flush?.(options)
  }
  await writeMetadata([{ storage, area }], text, options)
}
