import { setImmediate as turn } from 'node:timers/promises'
import { Random } from './random.js'

/**
 * The same storage, but nothing is done at once: between the call and its effect other calls get their turn, as with a
 * network or a busy disk.
 * @param {import('@img/core').Storage} storage
 * @param {number} seed
 * @returns {import('@img/core').Storage}
 */
export function delayed(storage, seed) {
  const random = new Random(seed)
  const wait = async () => {
    for (let turns = random.below(4); turns > 0; turns--) await turn()
  }
  const hidden = new Set(['readSync', 'writeSync'])
  const slow = new Set(['read', 'write', 'writeZeroes', 'discard', 'truncate', 'flush'])
  return new Proxy(storage, {
    get(target, name) {
      if (hidden.has(name)) return undefined
      const member = Reflect.get(target, name, target)
      if (typeof member !== 'function') return member
      if (!slow.has(name)) return member.bind(target)
      return async (...args) => {
        await wait()
        return member.apply(target, args)
      }
    },
  })
}
