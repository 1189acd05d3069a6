import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { type DiskImage, ImageError, type OpenOptions, openImage, type ReferenceResolver } from '@img/core'
import { FileStorage } from '@tooling/test-disks/storage'
import { afterAll } from 'vitest'
import { registry } from './disks.js'

/** A folder that goes when the tests are over. */
export function temporaryFolder(name: string): string {
  const folder = mkdtempSync(join(tmpdir(), name))
  afterAll(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

/** Opens and makes files beside an image. */
export const beside: ReferenceResolver = {
  async open({ name }, from, { writable }) {
    const path = join(dirname(from.label), name)
    try {
      return { storage: new FileStorage(path, { flags: writable ? 'r+' : 'r' }) }
    } catch (cause) {
      throw new ImageError('IMG_REFERENCE_MISSING', path, { cause })
    }
  },
  async create({ name }, from) {
    return new FileStorage(join(dirname(from.label), name), { flags: 'wx+' })
  },
  async add({ name }, from) {
    const path = join(dirname(from.label), name)
    const storage = new FileStorage(path, { flags: 'wx+' })
    return { storage, remove: async () => rmSync(path) }
  },
}

/** Opens a file of this format with what it refers to. */
export function openPath(path: string, options: OpenOptions = {}): Promise<DiskImage> {
  const storage = new FileStorage(path, { flags: options.writable === true ? 'r+' : 'r' })
  return openImage(storage, { registry, format: 'vmdk', references: beside, ...options })
}
