import {
  createRegistry,
  type DiskImage,
  memoryStorage,
  type OpenOptions,
  openImage,
  type ReferenceResolver,
  referencesFrom,
  type Storage,
} from '@img/core'
import { qcow2 } from '@img/qcow2/format'
import { raw } from '@img/raw/format'
import { vmdk } from '@img/vmdk/format'
import { ova, ovf } from '../../src/format.js'

export const registry: ReturnType<typeof createRegistry> = createRegistry([ova, ovf, vmdk, raw, qcow2])

/** Opens a package, found by probing. */
export function openBytes(bytes: Uint8Array, options: OpenOptions = {}, label = 'x.ova'): Promise<DiskImage> {
  return openImage(memoryStorage(bytes, { label, readOnly: true }), { registry, ...options })
}

/** Files beside a descriptor. Names asked for are put down in `asked`. */
export function folder(files: Readonly<Record<string, Uint8Array>>, asked: string[] = []): ReferenceResolver {
  const gate = referencesFrom(
    Object.fromEntries(
      Object.entries(files).map(([name, bytes]) => [
        name,
        () => memoryStorage(bytes, { label: name, readOnly: true }) as Storage,
      ]),
    ),
  )
  return {
    open(reference, from, how) {
      asked.push(reference.name)
      return gate.open(reference, from, how)
    },
  }
}
