import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { cases } from './cases.js'
import { makeImage } from './image.js'
import { measure, median } from './run.js'

const { values } = parseArgs({
  options: {
    size: { type: 'string', default: '2048' },
    runs: { type: 'string', default: '5' },
    only: { type: 'string' },
    dir: { type: 'string' },
    json: { type: 'boolean', default: false },
  },
})

const img = resolve(import.meta.dirname, '../../../apps/cli/dist/img.js')
if (!existsSync(img)) throw new Error('build first: pnpm build')
try {
  execFileSync('qemu-img', ['--version'], { stdio: 'ignore' })
} catch {
  console.log('SKIPPED: qemu-img is not installed, so there is nothing to compare with')
  process.exit(0)
}

const dir = values.dir ? resolve(values.dir) : mkdtempSync(join(tmpdir(), 'img-bench-'))
mkdirSync(dir, { recursive: true })
const files = {
  raw: join(dir, `disk-${values.size}.raw`),
  qcow2: join(dir, `disk-${values.size}.qcow2`),
  packed: join(dir, `disk-${values.size}-c.qcow2`),
  small: join(dir, 'small.qcow2'),
}
const qemu = (...args) => execFileSync('qemu-img', args, { stdio: 'ignore' })

/** Runs both alternately and returns figures of each. */
async function pair(theirs, ours, runs, before = () => {}) {
  const figures = { theirs: [], ours: [] }
  for (let run = 0; run <= runs; run++) {
    for (const [name, command] of [
      ['theirs', theirs],
      ['ours', ours],
    ]) {
      before()
      const result = await measure(command)
      // The first round only warms up.
      if (run > 0) figures[name].push(result)
    }
  }
  return figures
}

function ratio(figures, key) {
  return median(figures.ours.map((ours, i) => ours[key] / figures.theirs[i][key]))
}

const rows = []
function report(row) {
  rows.push(row)
  if (values.json) return
  const cells = [row.name.padEnd(22), ...['wall', 'cpu'].map((key) => row[key].toFixed(2).padStart(7))]
  cells.push(
    `${row.peak.toFixed(0).padStart(6)} MiB`,
    `${row.theirPeak.toFixed(0).padStart(6)} MiB`,
    row.note ?? '',
  )
  console.log(cells.join('  '))
}

try {
  if (!existsSync(files.raw)) makeImage(files.raw, Number(values.size) * 1024 * 1024)
  if (!existsSync(files.qcow2)) qemu('convert', '-f', 'raw', '-O', 'qcow2', files.raw, files.qcow2)
  if (!existsSync(files.packed)) qemu('convert', '-c', '-f', 'raw', '-O', 'qcow2', files.raw, files.packed)
  if (!existsSync(files.small)) qemu('create', '-f', 'qcow2', files.small, '64M')
  if (!values.json)
    console.log(`${'median img / qemu-img'.padEnd(22)}     wall      cpu    peak img  peak qemu-img`)
  for (const { name, theirs, limit, aim, slow } of cases) {
    if (values.only && !name.includes(values.only)) continue
    const runs = slow ? Math.min(3, Number(values.runs)) : Number(values.runs)
    const out = join(dir, 'out')
    const args = theirs({ ...files, out })
    const clear = () => rmSync(out, { force: true })
    const figures = await pair(['qemu-img', ...args], [process.execPath, img, ...args], runs, clear)
    execFileSync(
      'qemu-img',
      ['compare', '-f', 'raw', '-F', args.at(args.indexOf('-O') + 1), files.raw, out],
      { stdio: 'ignore' },
    )
    clear()
    const wall = ratio(figures, 'wall')
    const note = wall <= limit ? `at most ${limit}${aim ? `, aim ${aim}` : ''}` : `OVER ${limit}`
    report({
      name,
      wall,
      cpu: ratio(figures, 'cpu'),
      note,
      limit,
      peak: Math.max(...figures.ours.map(({ peak }) => peak)),
      theirPeak: Math.max(...figures.theirs.map(({ peak }) => peak)),
      ourSeconds: median(figures.ours.map(({ wall }) => wall)),
      theirSeconds: median(figures.theirs.map(({ wall }) => wall)),
    })
  }
  if (!values.only || 'info'.includes(values.only)) {
    const figures = await pair(
      [process.execPath, '-e', '0'],
      [process.execPath, img, 'info', files.small],
      15,
    )
    const extra = 1000 * median(figures.ours.map(({ wall }, i) => wall - figures.theirs[i].wall))
    if (values.json) rows.push({ name: 'info', milliseconds: extra, limit: 60 })
    else console.log(`info                    ${extra.toFixed(0)} ms more than bare node -e 0 (at most 60)`)
  }
  if (values.json) console.log(JSON.stringify(rows, null, 2))
} finally {
  if (!values.dir) rmSync(dir, { recursive: true, force: true })
}
