import { lvmError } from './errors.js'
import { MAX_STACK } from './limits.js'

/** A volume that is being made, for the one above it: so that none is built on itself, or on too many others. */
export class BuildLevel {
  readonly name: string
  readonly #above: BuildLevel | undefined
  readonly #depth: number
  #height = 1

  /** @throws {ImageError} IMG_CORRUPT where the volume is above already, or there are too many. */
  constructor(name: string, above?: BuildLevel) {
    this.name = name
    this.#above = above
    this.#depth = above === undefined ? 1 : above.#depth + 1
    for (let level = above; level !== undefined; level = level.#above) {
      if (level.name === name) throw tooHigh(name)
    }
    this.over(0)
  }

  /** Levels that the volume has, with itself: of what was made so far. */
  get height(): number {
    return this.#height
  }

  /** The volume stands on one of that many levels. @throws {ImageError} IMG_CORRUPT where these are too many. */
  over(height: number): void {
    if (this.#depth + height > MAX_STACK) throw tooHigh(this.name)
    this.#height = Math.max(this.#height, height + 1)
  }
}

function tooHigh(name: string): Error {
  return lvmError('IMG_CORRUPT', `metadata: ${name} is built on itself, or on too many others`)
}
