import { replay } from './sequence.js'

/**
 * Leaves out steps of a failed sequence for as long as it still fails, and the time lasts. Any failure counts: the one
 * found may be a consequence of another.
 * @param {import('./cases.js').Case} image
 * @param {readonly (readonly import('./sequence.js').Step[])[]} rounds
 * @param {number} until milliseconds since 1970
 * @returns {Promise<{ steps: readonly import('./sequence.js').Step[], message: string } | undefined>} undefined where the
 * sequence, judged after each step, does not fail again
 */
export async function shrink(image, rounds, until) {
  const fails = (steps) =>
    replay(
      image,
      steps.map((step) => [step]),
    )
  let steps = rounds.flat()
  let message = await fails(steps)
  if (message === undefined) return undefined
  for (let size = Math.ceil(steps.length / 2); size >= 1; size = Math.floor(size / 2)) {
    for (let at = steps.length - size; at > -size; at -= size) {
      if (Date.now() >= until) return { steps, message }
      const fewer = [...steps.slice(0, Math.max(0, at)), ...steps.slice(at + size)]
      const again = await fails(fewer)
      if (again === undefined) continue
      steps = fewer
      message = again
    }
  }
  return { steps, message }
}
