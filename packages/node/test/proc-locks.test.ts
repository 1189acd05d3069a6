import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { imageLocksExist } from '../src/native/proc-locks.js'
import { openFileStorage } from '../src/open-file.js'
import { temporaryDirectory } from './support/temp.js'

const directory = temporaryDirectory()

function told(lines: string): boolean {
  const path = join(directory, 'locks')
  writeFileSync(path, lines)
  return imageLocksExist(path)
}

describe('a look at the locks of the machine', () => {
  it('sees image locks, waiting ones and locks to the end of a file among them', () => {
    expect(told('1: OFDLCK ADVISORY  READ -1 fe:00:1318 201 201\n')).toBe(true)
    expect(
      told('1: POSIX  ADVISORY  WRITE 42 fe:00:7 0 EOF\n2: OFDLCK ADVISORY  READ -1 fe:00:1318 100 101\n'),
    ).toBe(true)
    expect(told('3: OFDLCK ADVISORY  WRITE -1 00:19:99 0 EOF\n')).toBe(true)
  })
  it('passes over locks of other kinds and on other bytes', () => {
    expect(told('')).toBe(false)
    expect(
      told('1: POSIX  ADVISORY  WRITE 42 fe:00:7 100 EOF\n2: FLOCK  ADVISORY  WRITE 9 00:19:3 0 EOF\n'),
    ).toBe(false)
    expect(
      told('2: OFDLCK ADVISORY  READ -1 fe:00:1318 0 99\n3: OFDLCK ADVISORY  READ -1 fe:00:1 204 400\n'),
    ).toBe(false)
  })
  it('says maybe where it cannot tell', () => {
    expect(imageLocksExist(join(directory, 'none'))).toBe(true)
  })
  it('refuses what another opening holds, and locks nothing itself', async () => {
    const path = join(directory, 'disk.raw')
    writeFileSync(path, new Uint8Array(4096))
    const other = await openFileStorage(join(directory, 'proof.raw'), { create: true })
    const look = await openFileStorage(path, { lock: 'look' })
    const writer = await openFileStorage(path, { writable: true })
    await look.close()
    if (writer.lock?.held) {
      await expect(openFileStorage(path, { lock: 'look' })).rejects.toMatchObject({ code: 'IMG_LOCKED' })
    }
    await writer.close()
    await other.close()
  })
})
