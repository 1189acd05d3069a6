import {
  alignUp,
  type ForwardSink,
  type PackContext,
  type StreamSource,
  type WritableStorage,
} from '@img/core'
import { badOption, type NewMachine, newMachine } from './create-options.js'
import { createHasher, type Hasher } from './digest.js'
import { ovaError } from './errors.js'
import { type Digest, serialiseManifest } from './manifest.js'
import { type NewDisk, newDescriptor } from './new-descriptor.js'
import { paddedSize, RECORD, serialiseTarHeader } from './tar-header.js'

const SECTOR = 512
/** Digits enough for the size of any file. */
const WIDEST: number = Number.MAX_SAFE_INTEGER

/** A file of the archive once it is written. */
interface Written {
  readonly size: number
  readonly digest: string
}

/** What is to be made, as far as it is known before the disks are written. */
interface Plan {
  readonly machine: NewMachine
  readonly descriptorName: string
  readonly manifestName: string
  readonly sources: readonly StreamSource[]
  readonly disks: readonly NewDisk[]
  readonly context: PackContext
}

/**
 * Makes an archive of one machine with these disks, stream-optimized: descriptor, manifest, disks, in the order that DSP0243
 * wants. Into a file the disks are written once, and what stands before them when their sizes are known, in room that was left for
 * it. Into a pipe they are compressed twice: the first time for their sizes and digests alone.
 * @throws {ImageError} IMG_BAD_OPTION; what the format of the disks throws.
 */
export async function packOva(
  target: WritableStorage | ForwardSink,
  sources: readonly StreamSource[],
  options: Readonly<Record<string, unknown>>,
  context: PackContext,
): Promise<void> {
  // Standard output has a label, but no name.
  const name = /[/\\.]/.test(target.label) ? target.label : ''
  const machine = newMachine(options, name)
  if (sources.length === 0) throw badOption('a package needs a disk')
  const stem = fileStem(machine.name)
  const disks: NewDisk[] = []
  for (const [index, { size }] of sources.entries()) {
    const file = `${stem}-disk${index + 1}.vmdk`
    disks.push({ file, size: WIDEST, capacity: alignUp(size, SECTOR), populated: 0 })
  }
  const plan = { machine, descriptorName: `${stem}.ovf`, manifestName: `${stem}.mf`, sources, disks, context }
  // What cannot be is told before anything is read.
  newDescriptor(machine, disks)
  for (const [index, source] of sources.entries()) {
    let populated = 0
    for await (const { length } of source.dataRanges(65536)) populated += length
    disks[index] = { ...(disks[index] as NewDisk), populated }
  }
  if ('truncate' in target) await packIntoFile(plan, target)
  else await packIntoSink(plan, target)
}

/**
 * Bytes that stand before the disks. They do not depend on the sizes of the files: what a descriptor with the widest numbers is
 * longer is filled up with blanks.
 */
async function headOf(plan: Plan, written: readonly Written[]): Promise<Uint8Array> {
  const { machine, descriptorName, manifestName } = plan
  const disks = plan.disks.map((disk, index) => ({ ...disk, size: written[index]?.size ?? disk.size }))
  const room = encoded(machine, plan.disks).length
  const descriptor = new Uint8Array(room).fill(0x20)
  descriptor.set(encoded(machine, disks))
  descriptor[room - 1] = 0x0a
  const files: { readonly name: string; readonly bytes: Uint8Array }[] = [
    { name: descriptorName, bytes: descriptor },
  ]
  const algorithm = machine.digest
  if (algorithm !== undefined) {
    const hasher = await createHasher(algorithm)
    hasher.update(descriptor)
    const digests = new Map<string, Digest>([[descriptorName, { algorithm, hex: hasher.digest() }]])
    for (const [index, { file }] of disks.entries()) {
      digests.set(file, { algorithm, hex: written[index]?.digest ?? '' })
    }
    files.push({ name: manifestName, bytes: serialiseManifest(digests) })
  }
  const size = files.reduce((sum, { bytes }) => sum + RECORD + paddedSize(bytes.length), 0)
  const head = new Uint8Array(size)
  let at = 0
  for (const { name, bytes } of files) {
    head.set(serialiseTarHeader({ name, size: bytes.length, type: '0' }), at)
    head.set(bytes, at + RECORD)
    at += RECORD + paddedSize(bytes.length)
  }
  return head
}

async function packIntoFile(plan: Plan, target: WritableStorage): Promise<void> {
  const { machine, disks, context } = plan
  const options = { signal: context.signal }
  // Only the length of what comes before the disks is told by these.
  const blank = { size: WIDEST, digest: '0'.repeat(digestDigits(machine)) }
  const unknown = disks.map(() => blank)
  const head = await headOf(plan, unknown)
  const written: Written[] = []
  let at = head.length
  for (const [index, { file }] of disks.entries()) {
    const start = at + RECORD
    let end = start
    const result = await writeDisk(plan, index, async (bytes) => {
      await target.write(end, bytes, options)
      end += bytes.length
    })
    written.push(result)
    await target.write(at, serialiseTarHeader({ name: file, size: result.size, type: '0' }), options)
    at = start + paddedSize(result.size)
  }
  // Two records of zeros end an archive.
  await target.truncate(at + 2 * RECORD, options)
  await target.write(0, await headOf(plan, written), options)
}

async function packIntoSink(plan: Plan, sink: ForwardSink): Promise<void> {
  const { disks } = plan
  const known: Written[] = []
  for (const index of disks.keys()) known.push(await writeDisk(plan, index, async () => undefined))
  await sink.write(await headOf(plan, known))
  for (const [index, { file }] of disks.entries()) {
    const { size, digest } = known[index] as Written
    await sink.write(serialiseTarHeader({ name: file, size, type: '0' }))
    const again = await writeDisk(plan, index, (bytes) => sink.write(bytes))
    if (again.size !== size || again.digest !== digest) {
      throw ovaError('IMG_IO', `disk ${index + 1} changed while it was read`, sink.label)
    }
    const rest = paddedSize(size) - size
    if (rest > 0) await sink.write(new Uint8Array(rest))
  }
  await sink.write(new Uint8Array(2 * RECORD))
}

/** Writes a disk to wherever `put` brings its bytes, and counts and digests them on the way. */
async function writeDisk(
  { machine, disks, sources, context }: Plan,
  index: number,
  put: (bytes: Uint8Array) => Promise<void>,
): Promise<Written> {
  const hasher: Hasher = await createHasher(machine.digest ?? 'SHA256')
  let size = 0
  const sink: ForwardSink = {
    label: disks[index]?.file ?? '',
    async write(bytes) {
      context.signal?.throwIfAborted()
      hasher.update(bytes)
      size += bytes.length
      await put(bytes)
    },
  }
  const { controller, hardware, level } = machine
  await context.streamDisk('vmdk', sink, sources[index] as StreamSource, {
    subformat: 'streamOptimized',
    adapter_type: controller === 'ide' || controller === 'sata' ? 'ide' : 'lsilogic',
    hwversion: /^vmx-0*([1-9]\d*)$/.exec(hardware)?.[1] ?? '4',
    ...(level !== undefined && { compression_level: level }),
  })
  return { size, digest: hasher.digest() }
}

function encoded(machine: NewMachine, disks: readonly NewDisk[]): Uint8Array {
  return new TextEncoder().encode(newDescriptor(machine, disks))
}

function digestDigits({ digest }: NewMachine): number {
  return digest === undefined ? 0 : { SHA1: 40, SHA256: 64, SHA512: 128 }[digest]
}

/** A name for files that needs no quoting anywhere, in a header of an archive and in a URL. */
function fileStem(name: string): string {
  const plain = name
    .normalize('NFKD')
    .replace(/[^A-Za-z0-9._-]+/g, '_')
    .replace(/^[._-]+|[._-]+$/g, '')
  return plain.slice(0, 64) || 'machine'
}
