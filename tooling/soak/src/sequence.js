import { create } from './create.js'
import { judge } from './judge.js'
import { operations } from './operations/index.js'
import { Random } from './random.js'
import { Subject } from './subject.js'

/** @typedef {{ readonly name: string } & Record<string, unknown>} Step */

const byName = new Map(operations.map((operation) => [operation.name, operation]))

/** What came before the failure: rounds of steps, judged after each. */
export class SoakFailure extends Error {
  /** @param {unknown} cause @param {Step[][]} rounds */
  constructor(cause, rounds) {
    super(cause instanceof Error ? cause.message : String(cause), { cause })
    this.rounds = rounds
  }
}

/**
 * A random sequence on one image.
 * @param {import('./cases.js').Case} image
 * @param {number} rounds each up to four steps, after which all is compared and checked
 * @param {number} [until] milliseconds since 1970 at which no further round begins
 * @returns {Promise<number>} steps done
 * @throws {SoakFailure}
 */
export async function soak(image, rounds, until = Number.POSITIVE_INFINITY) {
  const random = new Random(image.seed)
  /** @type {Step[][]} */
  const done = []
  let steps = 0
  await withSubject(image, async (subject) => {
    try {
      for (let round = 0; round < rounds && Date.now() < until; round++) {
        const log = []
        done.push(log)
        for (let left = 1 + random.below(4); left > 0; left--) {
          const able = operations.filter(({ possible }) => possible?.(subject) ?? true)
          const operation = random.weighted(able.map((each) => [each.weight, each]))
          const step = { name: operation.name, ...operation.plan(subject, random) }
          log.push(step)
          await operation.run(subject, step)
          steps++
        }
        await judge(subject, round)
      }
    } catch (error) {
      throw new SoakFailure(error, done)
    }
  })
  return steps
}

/**
 * Does recorded rounds again; steps that are not possible any more are left out.
 * @param {import('./cases.js').Case} image
 * @param {readonly (readonly Step[])[]} rounds
 * @returns {Promise<string | undefined>} the failure's message; undefined where all went well
 */
export async function replay(image, rounds) {
  let message
  await withSubject(image, async (subject) => {
    try {
      for (const [round, steps] of rounds.entries()) {
        for (const step of steps) {
          const operation = byName.get(step.name)
          if (operation.possible?.(subject, step) ?? true) await operation.run(subject, step)
        }
        await judge(subject, round)
      }
    } catch (error) {
      message = error instanceof Error ? error.message : String(error)
    }
  })
  return message
}

async function withSubject(image, task) {
  const subject = new Subject(image)
  try {
    await create(subject)
    await task(subject)
  } finally {
    await subject.close().catch(() => undefined)
    subject.remove()
  }
}
