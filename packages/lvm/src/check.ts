import { type CheckOptions, type CheckResult, ImageError } from '@img/core'
import { checkCopies } from './check-copies.js'
import { checkSegments } from './check-segments.js'
import { checkThinPool } from './check-thin.js'
import { Findings } from './findings.js'
import type { GroupSession } from './group-session.js'
import { LogicalVolumes } from './logical-volumes.js'
import { physicalVolumes } from './open-volume.js'
import type { PoolLeaks } from './repair-thin.js'
import { snapshotLinks } from './snapshot-links.js'
import { isInvalid, openStore, readTables } from './snapshot-store.js'
import { messagesOf } from './thin-links.js'
import type { LogicalVolume } from './volume-group.js'

/**
 * Checks a volume group: the copies of its metadata, its segments, the stores of its snapshots, and the metadata of its thin
 * pools. Repair is for the copies of the metadata, and for what pools have leaked.
 */
export async function checkGroup(session: GroupSession, options: CheckOptions): Promise<CheckResult> {
  const findings = new Findings(options)
  await checkCopies(session, findings)
  checkSegments(session, findings)
  const { group, found } = session
  const volumes = new LogicalVolumes(group, physicalVolumes(group, found), () => undefined)
  for (const { name, segments } of group.logicalVolumes.values()) {
    options.signal?.throwIfAborted()
    if (segments[0]?.type !== 'thin-pool') continue
    await attempt(findings, `thin pool ${name}`, async () => {
      const repair = options.repair && ((leaks: PoolLeaks) => repairPool(session, name, leaks, options))
      const pending = messagesOf(group.logicalVolumes.get(name) as LogicalVolume).length > 0
      await checkThinPool({ ...(await volumes.poolParts(name)), pending }, findings, repair)
    })
  }
  for (const { store, chunk } of snapshotLinks(group).values()) {
    await attempt(findings, `snapshot ${store}`, async () => {
      const volume = await volumes.openHidden(store)
      if (await isInvalid(volume)) {
        findings.add(
          'corruption',
          `snapshot ${store} is invalid: its store ran full, and what it held is lost`,
        )
      } else await readTables(store, await openStore(store, volume, chunk), chunk)
    })
  }
  return findings.result()
}

async function repairPool(
  session: GroupSession,
  name: string,
  leaks: PoolLeaks,
  options: CheckOptions,
): Promise<void> {
  const { repairLeaks } = await import('./repair-thin.js')
  await repairLeaks(session, name, leaks, options)
}

/** What cannot be looked at is told as that, or as damage where it is. */
async function attempt(findings: Findings, what: string, look: () => Promise<void>): Promise<void> {
  try {
    await look()
  } catch (error) {
    if (!ImageError.is(error)) throw error
    const damaged = ImageError.is(error, 'IMG_CORRUPT') || ImageError.is(error, 'IMG_TRUNCATED')
    findings.add(damaged ? 'corruption' : 'error', `${what}: ${error.message}`)
  }
}
