import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { run } from '@tooling/test-disks/qemu'

/** True where libvmdk's vmdkinfo is there to judge. */
export const hasLibvmdk: boolean = run('vmdkinfo', '-V').status === 0
if (!hasLibvmdk) console.warn('vmdkinfo is missing: tests that compare with libvmdk are skipped')

/**
 * The bytes of a disk as libvmdk reads them, through its file system; undefined where none can be mounted here.
 * @throws {Error} where it cannot open the disk.
 */
export function contentByLibvmdk(path: string): Uint8Array | undefined {
  const folder = mkdtempSync(join(tmpdir(), 'vmdk-mount-'))
  try {
    const { status, stdout, stderr } = run('vmdkmount', path, folder)
    if (status === null || /fuse/i.test(stderr)) return undefined
    if (status !== 0) throw new Error(`vmdkmount: ${stdout}\n${stderr}`)
    try {
      return readFileSync(join(folder, 'vmdk1'))
    } finally {
      run('umount', folder)
    }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}
