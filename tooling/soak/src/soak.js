import { parseArgs } from 'node:util'
import { abilities } from './abilities.js'
import { caseOf, titleOf } from './cases.js'
import { SoakFailure, soak } from './sequence.js'
import { shrink } from './shrink.js'
import { hasQemu } from './tools.js'

const usage = `pnpm soak [--minutes N] [--seed S] [--case I] [--rounds N] [--failures N]

Changes images at random, by img and by the tools of QEMU, and compares with a plain model after each round: for every
cluster size, compatibility level and width of refcounts, with what else there is chosen at random.

  --minutes N   how long, default 1
  --seed S      what decides all of it, default a new one, which is printed
  --case I      only this image, from this seed
  --rounds N    rounds on each image, default 40; each has up to four steps
  --failures N  ends after so many, default 1
`

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '1' },
    seed: { type: 'string' },
    case: { type: 'string' },
    rounds: { type: 'string', default: '40' },
    failures: { type: 'string', default: '1' },
    help: { type: 'boolean', default: false },
  },
})
if (values.help) {
  process.stdout.write(usage)
  process.exit(0)
}
const number = (name) => {
  const value = Number(values[name])
  if (!Number.isFinite(value) || value < 0) throw new Error(`--${name}: ${values[name]} is no number`)
  return value
}
if (!hasQemu()) {
  console.log('SKIPPED: qemu-img and qemu-io are not installed, so there is nobody to change images with')
  process.exit(0)
}

const seed = values.seed === undefined ? Math.floor(Math.random() * 1e6) : number('seed')
const until = Date.now() + number('minutes') * 60_000
const only = values.case === undefined ? undefined : number('case')
const rounds = number('rounds')
const able = await abilities()
console.log(`seed ${seed}${able.encryption ? '' : ', without encryption'}`)
let steps = 0
let images = 0
let failures = 0
for (let index = only ?? 0; Date.now() < until; index++) {
  const image = caseOf(seed, index, able)
  try {
    steps += await soak(image, rounds, until)
    images++
  } catch (error) {
    failures++
    console.log(`FAILED ${titleOf(image)}\n${error instanceof SoakFailure ? error.message : error?.stack}`)
    console.log(`again: pnpm soak --seed ${seed} --case ${index} --rounds ${rounds}`)
    if (error instanceof SoakFailure) {
      console.log('looking for a shorter sequence …')
      const found = await shrink(image, error.rounds, Date.now() + 60_000)
      if (found)
        console.log(`${found.message}\n${found.steps.map((step) => JSON.stringify(step)).join('\n')}`)
      else {
        console.log('judged after each step, it does not fail; these are the rounds:')
        for (const round of error.rounds)
          console.log(round.map((step) => JSON.stringify(step)).join('\n'), '\n--')
      }
    }
    if (failures >= number('failures')) break
  }
  if (only !== undefined) break
}
console.log(`seed ${seed}: ${images} images passed, ${steps} steps, ${failures} failed`)
process.exitCode = failures > 0 ? 1 : 0
