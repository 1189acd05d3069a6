import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { storageContract } from '../../core/test/storage-contract.js'
import { openFileStorage } from '../src/index.js'

for (const [name, options] of [
  ['a file', {}],
  ['a file to be written', { writable: true }],
  ['a file to be written, without the native binding', { writable: true, native: false }],
] as const) {
  const folder = mkdtempSync(join(tmpdir(), 'img-contract-'))
  let count = 0
  storageContract(`openFileStorage, ${name}`, {
    open(bytes) {
      const path = join(folder, `${count++}`)
      writeFileSync(path, bytes)
      return openFileStorage(path, options)
    },
    cleanup: async () => rmSync(folder, { recursive: true, force: true }),
  })
}
