import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** What lvm2 says of the metadata on a disk; undefined where it is not installed. */
export function pvck(disk: Uint8Array): string | undefined {
  const folder = mkdtempSync(join(tmpdir(), 'lvm-'))
  try {
    const file = join(folder, 'disk.raw')
    writeFileSync(file, disk)
    const dump = (what: string): string =>
      execFileSync('pvck', ['--dump', what, file], {
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'ignore'],
        env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` },
      })
    return dump('headers') + dump('metadata')
  } catch (error) {
    if ((error as { code?: string }).code === 'ENOENT') return undefined
    throw error
  } finally {
    rmSync(folder, { recursive: true })
  }
}
