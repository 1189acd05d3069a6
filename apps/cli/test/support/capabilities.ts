import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { imgFile } from './cli.js'

/** True where the qcow2 plugin that is installed can change bitmaps. */
export function canWriteBitmaps(): boolean {
  const cwd = mkdtempSync(join(tmpdir(), 'img-cli-'))
  const run = (...args: string[]): boolean =>
    spawnSync(process.execPath, [imgFile, ...args], { cwd }).status === 0
  try {
    return run('create', '-q', '-f', 'qcow2', 'a', '1M') && run('bitmap', '--add', 'a', 'b')
  } finally {
    rmSync(cwd, { recursive: true, force: true })
  }
}
