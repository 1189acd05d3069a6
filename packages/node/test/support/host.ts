import { closeSync, ftruncateSync, openSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { loadLibC, nextData, nextHole } from '../../src/native/index.js'

/** True where the native binding is to be had: Linux on x64 or arm64 with koffi installed. */
export const nativeHost: boolean = loadLibC() !== undefined

/** True where the file system of that directory keeps holes of 64 KiB and tells where they are. */
export function tellsHoles(directory: string): boolean {
  const fd = openSync(join(directory, 'probe'), 'w+')
  try {
    ftruncateSync(fd, 3 * 65536)
    writeSync(fd, new Uint8Array(65536).fill(1), 0, 65536, 65536)
    return nextData(fd, 0) === 65536 && nextHole(fd, 65536) === 2 * 65536
  } finally {
    closeSync(fd)
  }
}
