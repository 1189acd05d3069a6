import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { type DiskImage, openImage } from '@img/core'
import { FileStorage } from '@tooling/test-disks/storage'
import { registry } from './disks.js'
import { besides } from './write-run.js'

/** A directory for one test, with the path of an image in it. */
export async function inDirectory(action: (dir: string, path: string) => Promise<void>): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), 'qcow2-test-'))
  try {
    await action(dir, join(dir, 'disk.qcow2'))
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
}

/** Opens an image, with the files beside it as its backing files. */
export function openAt(path: string, writable = true): Promise<DiskImage> {
  return openImage(new FileStorage(path, { flags: writable ? 'r+' : 'r' }), {
    registry,
    format: 'qcow2',
    writable,
    references: besides(dirname(path)),
  })
}
