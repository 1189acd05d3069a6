import { closeSync, openSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { blockDeviceSize, isBlockDevice, isReadOnlyDevice, logicalBlockSize } from '../src/native/index.js'
import { temporaryDirectory } from './support/temp.js'

const directory = temporaryDirectory()

describe('block devices', () => {
  it('are told from files', () => {
    const path = join(directory, 'file')
    writeFileSync(path, Buffer.alloc(1234))
    const fd = openSync(path, 'r')
    try {
      expect(isBlockDevice(fd)).toBe(false)
      // What is no device has no answer from the kernel: the size is found by reading, the block size is the safe one.
      expect(blockDeviceSize(fd, { native: false })).toBe(1234)
      expect(logicalBlockSize(fd)).toBe(4096)
      expect(isReadOnlyDevice(fd)).toBe(false)
    } finally {
      closeSync(fd)
    }
  })

  it('may be empty', () => {
    const path = join(directory, 'empty')
    writeFileSync(path, '')
    const fd = openSync(path, 'r')
    try {
      expect(blockDeviceSize(fd)).toBe(0)
    } finally {
      closeSync(fd)
    }
  })
})
