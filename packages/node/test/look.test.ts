import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { openFileStorage } from '../src/open-file.js'
import { temporaryDirectory } from './support/temp.js'

const directory = temporaryDirectory()

it('refuses to look at what another opening writes, and locks nothing itself', async () => {
  const path = join(directory, 'disk.raw')
  writeFileSync(path, new Uint8Array(4096))
  const look = await openFileStorage(path, { lock: 'look' })
  const writer = await openFileStorage(path, { writable: true })
  await look.close()
  if (writer.lock?.held) {
    await expect(openFileStorage(path, { lock: 'look' })).rejects.toMatchObject({ code: 'IMG_LOCKED' })
  }
  await writer.close()
})
