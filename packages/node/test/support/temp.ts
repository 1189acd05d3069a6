import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll } from 'vitest'

/** A directory that is removed when the file's tests have ended. */
export function temporaryDirectory(): string {
  const path = mkdtempSync(join(tmpdir(), 'img-node-'))
  afterAll(() => rmSync(path, { recursive: true, force: true }))
  return path
}
