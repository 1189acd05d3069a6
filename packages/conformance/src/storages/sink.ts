import type { ForwardSink } from '@img/core'
import { ConformanceError } from '../fault.js'

/** How a sink of the kit behaves. */
export interface SinkOptions {
  /** Called before every write, counted from 1; it may wait or throw. */
  readonly before?: ((count: number, length: number) => void | Promise<void>) | undefined
}

/** A sink that only goes forward, is slow, and takes note of what is done wrong. */
export interface KitSink extends ForwardSink {
  /** Everything written. */
  bytes(): Uint8Array
  readonly writes: number
  /** What was done that a sink does not allow. */
  readonly faults: readonly ConformanceError[]
}

/** Members that anyone may look for to see what a sink is. */
const harmless = new Set<PropertyKey>([
  'then',
  'constructor',
  'toJSON',
  Symbol.toPrimitive,
  Symbol.toStringTag,
])

/** Makes a sink. */
export function kitSink(options: SinkOptions = {}): KitSink {
  const parts: Uint8Array[] = []
  const faults: ConformanceError[] = []
  let busy = false
  let writes = 0
  const fault = (message: string): never => {
    const error = new ConformanceError(message)
    faults.push(error)
    throw error
  }
  const sink: KitSink = {
    label: 'pipe of the test',
    faults,
    get writes() {
      return writes
    },
    bytes() {
      const whole = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0))
      let at = 0
      for (const part of parts) {
        whole.set(part, at)
        at += part.length
      }
      return whole
    },
    async write(bytes) {
      if (busy) fault('it writes to the sink before the last write is done')
      busy = true
      writes++
      try {
        const taken = bytes.slice()
        await options.before?.(writes, bytes.length)
        for (let turns = writes % 2 === 0 ? 3 : 60; turns > 0; turns--) await Promise.resolve()
        if (taken.some((byte, i) => byte !== bytes[i]))
          fault('it changes bytes that it gave to the sink before the sink was done with them')
        parts.push(taken)
      } finally {
        busy = false
      }
    },
  }
  return new Proxy(sink, {
    get(target, key) {
      if (key in target) return Reflect.get(target, key)
      if (harmless.has(key)) return undefined
      return fault(`it uses ${String(key)} of the sink; a sink only has write`)
    },
  })
}
