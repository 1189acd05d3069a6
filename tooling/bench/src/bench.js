import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { cases, luksOptions, secret } from './cases.js'
import { makeImage } from './image.js'
import { inPlace } from './in-place.js'
import { benchReads } from './reads.js'
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
  luks: join(dir, `disk-${values.size}-luks.qcow2`),
  vmdk: join(dir, `disk-${values.size}.vmdk`),
  streamed: join(dir, `disk-${values.size}-stream.vmdk`),
  vdi: join(dir, `disk-${values.size}.vdi`),
  qcow: join(dir, `disk-${values.size}.qcow`),
  small: join(dir, 'small.qcow2'),
}
const qemu = (...args) => execFileSync('qemu-img', args, { stdio: 'ignore' })
const io = (...args) => execFileSync('qemu-io', args, { stdio: 'ignore' })
const bare = [process.execPath, '-e', '0']
const wanted = (name) => !values.only || name.includes(values.only)

/** One case; what fails is told of, and the others go on. */
async function attempt(name, task) {
  if (!wanted(name)) return
  try {
    await task()
  } catch (error) {
    process.exitCode = 1
    const message = error instanceof Error ? error.message : String(error)
    if (values.json) rows.push({ name, failed: message })
    else console.log(`${name.padEnd(28)}  FAILED: ${message.split('\n').slice(0, 3).join(' | ')}`)
  }
}

/** Seconds that short cases are repeated for, and how often at most: a few runs of half a second tell little. */
const [seconds, mostRuns] = [20, 25]

/** Runs both alternately, each first in every other round, and returns figures of each. */
async function pair(theirs, ours, runs, before = () => {}) {
  const figures = { theirs: [], ours: [] }
  const order = [
    ['theirs', theirs],
    ['ours', ours],
  ]
  let spent = 0
  for (let run = 0; run <= runs || (spent < seconds && run <= mostRuns); run++) {
    for (const [name, command] of order) {
      before()
      const result = await measure(command)
      // The first round only warms up.
      if (run === 0) continue
      figures[name].push(result)
      spent += result.wall
    }
    order.reverse()
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
  const cells = [row.name.padEnd(28), ...['wall', 'cpu'].map((key) => row[key].toFixed(2).padStart(7))]
  cells.push(
    `${row.peak.toFixed(0).padStart(6)} MiB`,
    `${row.theirPeak.toFixed(0).padStart(6)} MiB`,
    row.note ?? '',
  )
  console.log(cells.join('  '))
}

function reportPair(name, figures, limit, aim) {
  const wall = ratio(figures, 'wall')
  report({
    name,
    wall,
    cpu: ratio(figures, 'cpu'),
    note: wall <= limit ? `at most ${limit}${aim ? `, aim ${aim}` : ''}` : `OVER ${limit}`,
    limit,
    peak: Math.max(...figures.ours.map(({ peak }) => peak)),
    theirPeak: Math.max(...figures.theirs.map(({ peak }) => peak)),
    ourSeconds: median(figures.ours.map(({ wall }) => wall)),
    theirSeconds: median(figures.theirs.map(({ wall }) => wall)),
  })
}

function reportReads(row) {
  rows.push(row)
  if (values.json) return
  const note = row.ratio >= row.limit ? `at least ${row.limit}` : `UNDER ${row.limit}`
  const each = [row.ours, row.theirs].map((count) => (count / 1000).toFixed(0)).join(' against ')
  console.log(
    `${row.name.padEnd(34)}  ${row.ratio.toFixed(2).padStart(6)}  thousand a second: ${each}  ${note}`,
  )
}

/** Copies into a new file. */
async function copies({ name, theirs, compare, limit, aim, slow, mayFail }) {
  const runs = Math.min(slow ?? Number.POSITIVE_INFINITY, Number(values.runs))
  const out = join(dir, 'out')
  const args = theirs({ ...files, out })
  const clear = () => rmSync(out, { force: true })
  const theirTool = mayFail ? ['bash', '-c', '"$@"; true', 'bash', 'qemu-img'] : ['qemu-img']
  const figures = await pair([...theirTool, ...args], [process.execPath, img, ...args], runs, clear)
  const plain = () => ['-f', 'raw', '-F', args.at(args.indexOf('-O') + 1), files.raw, out]
  qemu('compare', ...(compare?.({ ...files, out }) ?? plain()))
  clear()
  reportPair(name, figures, limit, aim)
}

/** Changes of images that exist. */
async function changes({ name, make, before, command, verify, limit, above }) {
  make(dir, qemu, io)
  const args = command(dir)
  const theirs = above === undefined ? ['qemu-img', ...args] : bare
  const prepare = () => before?.(dir, qemu)
  const figures = await pair(theirs, [process.execPath, img, ...args], Number(values.runs), prepare)
  verify?.(dir, qemu)
  if (above === undefined) reportPair(name, figures, limit)
  else reportExtra(name, figures, above)
}

/** How much longer img takes than `theirs`, which is bare node. */
function reportExtra(name, figures, limit) {
  const milliseconds = 1000 * median(figures.ours.map(({ wall }, i) => wall - figures.theirs[i].wall))
  rows.push({ name, milliseconds, limit })
  if (values.json) return
  const note = milliseconds <= limit ? `at most ${limit}` : `OVER ${limit}`
  console.log(`${name.padEnd(28)}  ${milliseconds.toFixed(0)} ms more than bare node -e 0  ${note}`)
}

try {
  if (!existsSync(files.raw)) makeImage(files.raw, Number(values.size) * 1024 * 1024)
  if (!existsSync(files.qcow2)) qemu('convert', '-f', 'raw', '-O', 'qcow2', files.raw, files.qcow2)
  if (!existsSync(files.packed)) qemu('convert', '-c', '-f', 'raw', '-O', 'qcow2', files.raw, files.packed)
  if (!existsSync(files.luks) && cases.some(({ name }) => name.includes('LUKS') && wanted(name)))
    qemu('convert', ...secret, '-f', 'raw', '-O', 'qcow2', '-o', luksOptions, files.raw, files.luks)
  if (!existsSync(files.vmdk) && wanted('vmdk to raw'))
    qemu('convert', '-f', 'raw', '-O', 'vmdk', files.raw, files.vmdk)
  if (!existsSync(files.streamed) && wanted('streamOptimized to raw')) {
    const options = ['-O', 'vmdk', '-o', 'subformat=streamOptimized']
    qemu('convert', '-f', 'raw', ...options, files.raw, files.streamed)
  }
  // Both by the library's own hand: qemu-img takes minutes for qcow. It judges what the cases make.
  for (const format of ['vdi', 'qcow']) {
    if (existsSync(files[format]) || !wanted(`${format} to raw`)) continue
    const args = ['convert', '-f', 'raw', '-O', format, files.raw, files[format]]
    execFileSync(process.execPath, [img, ...args], { stdio: 'ignore' })
  }
  if (!existsSync(files.small)) qemu('create', '-f', 'qcow2', files.small, '64M')
  if (!values.json)
    console.log(`${'median img / qemu-img'.padEnd(28)}     wall      cpu    peak img  peak qemu-img`)
  for (const each of cases) await attempt(each.name, () => copies(each))
  for (const each of inPlace) await attempt(each.name, () => changes(each))
  for (const format of ['raw', 'qcow2']) {
    const name = `reads of ${format}`
    const image = { name, path: files[format], format }
    await attempt(name, () => benchReads(image, Number(values.runs), reportReads))
  }
  await attempt('info', async () => {
    reportExtra('info', await pair(bare, [process.execPath, img, 'info', files.small], 15), 60)
  })
  if (values.json) console.log(JSON.stringify(rows, null, 2))
} finally {
  if (!values.dir) rmSync(dir, { recursive: true, force: true })
}
