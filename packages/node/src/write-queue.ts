/**
 * What the thread that writes and the one that gives it work share: a ring of buffers, a ring of commands, and a few words.
 */
export interface Shared {
  readonly words: Int32Array
  readonly commands: Float64Array
  readonly bytes: Uint8Array
}

/** Indexes of words. Counters begin again at 0 after {@link counterEnd}. */
export const word = {
  /** 1: the thread takes commands. */
  ready: 0,
  /** Commands given. */
  pushed: 1,
  /** Commands done. */
  done: 2,
  /** Buffers given back. */
  released: 3,
  /** 1: the other side sleeps until half of the buffers are free. */
  waiting: 4,
  /** Buffers in use. */
  used: 5,
  /** errno, positive, of the write that failed; 0: none. No command after it is executed. */
  errno: 6,
} as const

/** Number of words. */
export const wordCount = 7

/** Counters run up to this, which is a multiple of the number of commands. */
export const counterEnd: number = 2 ** 30

/** Indexes of the numbers of a command. */
export const command = {
  /** File descriptor, or {@link endMark}. */
  fd: 0,
  /** Where in `bytes` it starts. */
  start: 1,
  length: 2,
  /** Offset in the file. */
  position: 3,
  /** 1: its buffer is free afterwards. */
  last: 4,
  /** 1: blocks are to be reserved first. */
  reserve: 5,
} as const

/** Numbers of a command. */
export const commandNumbers = 6

/** Commands that are waiting at most. */
export const commandCount = 1024

/** Instead of a file descriptor: end of work. */
export const endMark: number = -1

/** Looks taken before a thread goes to sleep: being woken costs more than a short wait. */
export const patience = 2000

/** The counter after this one. */
export function next(counter: number): number {
  return (counter + 1) % counterEnd
}
