import { fstatSync, ftruncateSync, statfsSync } from 'node:fs'
import { reserveAhead } from './native/index.js'

/** Reserved at once, in bytes: at most as much as was written before it, so that a small file gets little. */
const largest = 64 * 1024 * 1024

/** A gap in what is written that will be filled later: metadata, placed between the data. */
const smallGap = 1024 * 1024

/** What `statfs` says of ext4. */
const ext4 = 0xef53

/** What it says of file systems that never share blocks between files: ext4 and tmpfs. */
const unshared: readonly number[] = [ext4, 0x01021994]

/** Keeps room reserved ahead of a file that is written from front to back, and gives back what was not used of it. */
export class RoomAhead {
  readonly #fd: number
  #possible: boolean
  #used = false
  #start = 0
  #end = 0
  #reserved = 0

  /** @param path of the file that `fd` is open on */
  constructor(fd: number, path: string) {
    this.#fd = fd
    this.#possible = reservingPays(path)
  }

  /** To be called before a range is written. */
  before(offset: number, length: number): void {
    if (!this.#possible) return
    if (this.#end === 0) this.#start = this.#end = this.#reserved = offset
    // Not packed one behind the other: what is reserved could stay between the data.
    if (offset < this.#end || offset > this.#end + smallGap) {
      this.#possible = false
      return
    }
    this.#end = offset + length
    const written = this.#end - this.#start
    if (this.#end <= this.#reserved || written < smallGap) return
    const room = Math.max(length, Math.min(largest, written))
    this.#possible = reserveAhead(this.#fd, offset, room)
    this.#reserved = offset + room
    this.#used = true
  }

  /** Gives back what lies past the end of the file. All that was written must have arrived. */
  close(): void {
    // To the size that it has: that frees the blocks past it.
    if (this.#used) ftruncateSync(this.#fd, fstatSync(this.#fd).size)
  }
}

/** True where room reserved ahead makes writing cheaper by a quarter: ext4 need not account for each block then. */
export function reservingPays(path: string): boolean {
  try {
    return statfsSync(path).type === ext4
  } catch {
    return false
  }
}

/** False where a file system is known never to share blocks between files, nor to copy them by itself. */
export function mayShareBlocks(path: string): boolean {
  try {
    return !unshared.includes(statfsSync(path).type)
  } catch {
    return false
  }
}
