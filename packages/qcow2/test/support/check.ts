import { type CheckFinding, type CheckResult, openImage, type Storage } from '@img/core'
import { run } from '@tooling/test-disks/qemu'
import { MemoryStorage } from '@tooling/test-disks/storage'
import { registry } from './disks.js'

/** Numbers as `qemu-img check --output=json` prints them: those that are 0 are left out. */
function numbers(result: CheckResult): Record<string, number> {
  const shown: Record<string, number | undefined> = {
    'image-end-offset': result.imageEndOffset,
    'total-clusters': result.totalClusters || undefined,
    corruptions: result.corruptions || undefined,
    'check-errors': result.checkErrors,
    leaks: result.leaks || undefined,
    'corruptions-fixed': result.corruptionsFixed || undefined,
    'leaks-fixed': result.leaksFixed || undefined,
    'allocated-clusters': result.allocatedClusters || undefined,
    'fragmented-clusters': result.fragmentedClusters || undefined,
    'compressed-clusters': result.compressedClusters || undefined,
  }
  return Object.fromEntries(Object.entries(shown).filter(([, n]) => n !== undefined)) as Record<
    string,
    number
  >
}

function exitCode({ checkErrors, corruptions, leaks }: CheckResult): number {
  if (checkErrors > 0) return 1
  if (corruptions > 0) return 2
  return leaks > 0 ? 3 : 0
}

/** Lines of qemu-img that are the check's own; what is said on opening is not. */
export function shownLines(stderr = ''): string[] {
  return stderr
    .split('\n')
    .map((line) => line.replace(/^.*on the image file to fix\./, '').replace(/^qemu-img: (?=ERROR)/, ''))
    .filter((line) => line !== '' && !/^(qemu-img|qcow2): |^You can force-remove|^Use qemu-img/.test(line))
    .map((line) => line.replace(/(Can't get refcount for cluster \d+): .*/, '$1'))
}

/** What a check came to. */
export interface Outcome {
  readonly rc: number
  readonly json?: Record<string, number>
  readonly lines: readonly string[]
}

/** Checks an image as the command does. */
export async function runCheck(storage: Storage, repair?: 'leaks' | 'all', dryRun = false): Promise<Outcome> {
  const findings: CheckFinding[] = []
  const image = await openImage(storage, {
    registry,
    format: 'qcow2',
    repair: true,
    writable: repair !== undefined && !dryRun,
    chain: false,
    // What is checked is the image file alone.
    references: { open: async () => ({ storage: new MemoryStorage(new Uint8Array(2 ** 20)) }) },
  })
  const result = (await image.check?.({ repair, dryRun, onFinding: (f) => findings.push(f) })) as CheckResult
  await image.close()
  return {
    rc: exitCode(result),
    // Where a check gives up, qemu-img prints no numbers.
    ...(result.stopped !== true && { json: numbers(result) }),
    lines: findings.map(({ message }) => message.replace(/(Can't get refcount for cluster \d+): .*/, '$1')),
  }
}

/** Has qemu-img check an image. */
export function qemuCheck(path: string, repair?: 'leaks' | 'all'): Outcome {
  const how = repair === undefined ? [] : ['-r', repair]
  const { status, stdout, stderr } = run('qemu-img', 'check', '-f', 'qcow2', '--output=json', ...how, path)
  const { filename: _, format: __, ...json } = stdout === '' ? {} : JSON.parse(stdout)
  return { rc: status ?? -1, ...(stdout !== '' && { json }), lines: shownLines(stderr) }
}
