import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'vitest'
import { openVolume } from './open.js'

/** What thin_check says; undefined where it is not installed. */
export async function thinCheck(disks: readonly Uint8Array[]): Promise<string | undefined> {
  await using metadata = await openVolume(disks, 'vg0/pool_tmeta')
  const bytes = new Uint8Array(metadata.size)
  await metadata.read(0, bytes)
  const folder = mkdtempSync(join(tmpdir(), 'thin-'))
  try {
    writeFileSync(join(folder, 'tmeta'), bytes)
    execFileSync('thin_check', [join(folder, 'tmeta')], {
      stdio: 'pipe',
      env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` },
    })
    return 'ok'
  } catch (error) {
    const { code, stderr } = error as { code?: string; stderr?: Buffer }
    if (code === 'ENOENT') return undefined
    return String(stderr)
  } finally {
    rmSync(folder, { recursive: true })
  }
}

/** Our check and thin_check both find nothing. */
export async function sound(disks: readonly Uint8Array[], lv = 't1'): Promise<void> {
  await using image = await openVolume(disks, lv)
  const found: string[] = []
  await image.check?.({ onFinding: ({ message }) => found.push(message) })
  expect(found).toEqual([])
  expect((await thinCheck(disks)) ?? 'ok').toBe('ok')
}
