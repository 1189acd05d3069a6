import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createImage } from '@img/core'
import { convertFile, createTarget, nodeReferences, openFile } from '@img/node'
import { qcow2 } from '@img/qcow2/format'
import { contentOf } from './random.js'
import { PASSPHRASE } from './subject.js'
import { must, run } from './tools.js'

/**
 * Makes the files of a subject: what can be backing files, and the image.
 * @param {import('./subject.js').Subject} subject
 */
export async function create(subject) {
  const { backing, start, size, seed, maker } = subject.case
  const options = optionsOf(subject)
  if (backing !== 'none') createBelow(subject, backing)
  const named = subject.backing && { backing_file: subject.backing, backing_fmt: formatOf(subject.backing) }
  subject.content = start === 'compressed' ? contentOf(size, seed) : subject.below.slice(0, size)
  subject.compressed = start === 'compressed'
  const plain = join(subject.dir, 'start.raw')
  if (start === 'compressed') writeFileSync(plain, subject.content)
  if (maker === 'img') return createHere(subject, { ...options, ...named }, plain)
  const made = [
    ...subject.secretArgs,
    '-o',
    Object.entries(options)
      .map((each) => each.join('='))
      .join(','),
  ]
  const below = named ? ['-F', named.backing_fmt] : []
  if (start === 'compressed') {
    // With -B: what is the same below is not written.
    const onto = named ? ['-B', named.backing_file, ...below] : []
    must('qemu-img', ['convert', '-c', '-f', 'raw', '-O', 'qcow2', ...made, ...onto, plain, subject.path])
  } else {
    const onto = named ? ['-b', named.backing_file, ...below] : []
    patiently(['create', '-q', '-f', 'qcow2', ...made, ...onto, subject.path, String(size)])
  }
}

/** Runs qemu-img; on a busy machine it cannot always tell how long a passphrase takes, and gives up. */
function patiently(args) {
  for (let tries = 10; tries > 1; tries--) {
    const { status, stderr } = run('qemu-img', args)
    if (status === 0) return
    if (!stderr.includes('accurate CPU usage')) break
  }
  must('qemu-img', args)
}

/** Options of the new image, under qemu-img's names. */
function optionsOf({ dir, clusterSize, case: image }) {
  const { compat, refcountBits, extended, lazy, compression, data, start, encryption } = image
  return {
    cluster_size: String(clusterSize),
    compat,
    ...(refcountBits !== 16 && { refcount_bits: String(refcountBits) }),
    ...(extended && { extended_l2: 'on' }),
    ...(lazy && { lazy_refcounts: 'on' }),
    ...(compression === 'zstd' && { compression_type: 'zstd' }),
    ...(data !== 'inside' && { data_file: join(dir, 'data.raw') }),
    ...(data === 'raw' && { data_file_raw: 'on' }),
    ...(start === 'metadata' && { preallocation: 'metadata' }),
    ...(encryption !== 'none' && { 'encrypt.format': encryption, 'encrypt.key-secret': 'soak' }),
    ...(encryption === 'luks' && { 'encrypt.iter-time': '10' }),
  }
}

async function createHere(subject, options, plain) {
  const { path, case: image } = subject
  if (image.start === 'compressed') {
    const disk = await openFile(plain, { format: 'raw' })
    await convertFile(disk, path, { format: 'qcow2', options, compressed: true })
    return disk.close()
  }
  const targets = [await createTarget(path)]
  await createImage(qcow2, targets[0].storage, {
    size: image.size,
    options,
    references: nodeReferences({ onCreate: (target) => targets.push(target) }),
    secret: () => new TextEncoder().encode(PASSPHRASE),
  })
  for (const target of targets.reverse()) await target.commit()
}

/** @param {string} name of a file that can be a backing file */
export function formatOf(name) {
  return name.endsWith('.raw') ? 'raw' : 'qcow2'
}

/** Makes what can be backing files, and chooses. @param {'raw' | 'chain'} kind */
function createBelow(subject, kind) {
  const { dir, files } = subject
  const { size, seed } = subject.case
  // Shorter than the disk, and longer, and no multiple of a cluster.
  const base = contentOf(size - 5 * 512, seed + 1)
  const other = contentOf(size + 7 * 512, seed + 2)
  writeFileSync(join(dir, 'base.raw'), base)
  writeFileSync(join(dir, 'other.raw'), other)
  files.set('base.raw', base)
  files.set('other.raw', other)
  if (kind === 'chain') {
    const middle = join(dir, 'middle.qcow2')
    must('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', 'base.raw', '-F', 'raw', middle])
    const length = 512 * Math.floor(base.length / 2048)
    const writes = ['-c', `write -P 77 0 ${length}`, '-c', `write -z ${2 * length} 65536`]
    must('qemu-io', ['-f', 'qcow2', ...writes, middle])
    files.set(
      'middle.qcow2',
      base
        .slice()
        .fill(77, 0, length)
        .fill(0, 2 * length, 2 * length + 65536),
    )
  }
  subject.rebased(kind === 'chain' ? 'middle.qcow2' : 'base.raw')
}
