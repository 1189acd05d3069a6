import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { imgFile } from './cli.js'

/** True where all these command lines succeed, one after the other in a directory of their own. */
function succeed(...lines: readonly (readonly string[])[]): boolean {
  const cwd = mkdtempSync(join(tmpdir(), 'img-cli-'))
  const env = { ...process.env, IMG_PASSPHRASE: 'x' }
  try {
    return lines.every((args) => spawnSync(process.execPath, [imgFile, ...args], { cwd, env }).status === 0)
  } finally {
    rmSync(cwd, { recursive: true, force: true })
  }
}

/** True where the qcow2 plugin that is installed can change bitmaps. */
export function canWriteBitmaps(): boolean {
  return succeed(['create', '-q', '-f', 'qcow2', 'a', '1M'], ['bitmap', '--add', 'a', 'b'])
}

/** True where it can make encrypted images. */
export function canEncrypt(): boolean {
  const options = 'encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10'
  return succeed([
    ...['create', '-q', '-f', 'qcow2', '--object', 'secret,id=s,data=x', '-o', options, 'a', '1M'],
  ])
}
