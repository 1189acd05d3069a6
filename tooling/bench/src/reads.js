import { spawnSync } from 'node:child_process'
import { createRegistry } from '@img/core'
import { openFile } from '@img/node'
import { qcow2 } from '@img/qcow2/format'
import { raw } from '@img/raw/format'
import { median } from './run.js'

const registry = createRegistry([qcow2, raw])

/** Reads of both go to the same offsets: steps of this part of the disk, which come by every block of it late. */
const golden = 0.381966

/** What is measured: requests of so many bytes, so many at a time. */
const patterns = [
  { bytes: 4096, depth: 1, count: 60_000 },
  { bytes: 4096, depth: 32, count: 60_000 },
  { bytes: 65536, depth: 1, count: 15_000 },
  { bytes: 65536, depth: 32, count: 15_000 },
]

/**
 * Random reads through the library against `qemu-img bench`, in operations a second.
 * @param {{ name: string, path: string, format: string }} image
 * @param {number} runs
 * @param {(row: object) => void} report given each row: `ratio` is ours / theirs, to be at least `limit`
 */
export async function benchReads({ name, path, format }, runs, report) {
  const disk = await openFile(path, { registry, format })
  try {
    for (const { bytes, depth, count } of patterns) {
      const step = Math.floor((disk.size * golden) / bytes) * bytes
      const figures = []
      for (let run = 0; run <= runs; run++) {
        const theirs = byQemu(path, format, { bytes, depth, count, step })
        const ours = await byLibrary(disk, { bytes, depth, count, step })
        // The first round only warms up.
        if (run > 0) figures.push({ ours, theirs })
      }
      report({
        name: `${name}, ${bytes / 1024} KiB, depth ${depth}`,
        ratio: median(figures.map(({ ours, theirs }) => ours / theirs)),
        ours: median(figures.map(({ ours }) => ours)),
        theirs: median(figures.map(({ theirs }) => theirs)),
        limit: 0.7,
      })
    }
  } finally {
    await disk.close()
  }
}

function byQemu(path, format, { bytes, depth, count, step }) {
  const numbers = { '-c': count, '-d': depth, '-s': bytes, '-S': step }
  const args = [
    'bench',
    '-f',
    format,
    ...Object.entries(numbers).flatMap(([flag, n]) => [flag, String(n)]),
    path,
  ]
  const { status, stdout, stderr } = spawnSync('qemu-img', args, { encoding: 'utf8' })
  const seconds = /completed in ([\d.]+) seconds/.exec(stdout)?.[1]
  if (status !== 0 || seconds === undefined) throw new Error(`qemu-img ${args.join(' ')}: ${stdout}${stderr}`)
  return count / Number(seconds)
}

async function byLibrary(disk, { bytes, depth, count, step }) {
  let left = count
  let next = 0
  const start = performance.now()
  await Promise.all(
    Array.from({ length: depth }, async () => {
      const into = new Uint8Array(bytes)
      while (left-- > 0) {
        const at = next + bytes > disk.size ? 0 : next
        next = (at + step) % disk.size
        await disk.read(at, into)
      }
    }),
  )
  return (count * 1000) / (performance.now() - start)
}
