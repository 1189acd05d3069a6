import { writeFileSync } from 'node:fs'
import { content, random } from '@tooling/test-disks/disks'
import { assertClean, assertSame, hasQemu, run } from '@tooling/test-disks/qemu'
import { expect } from 'vitest'
import { openPath } from './folder.js'

/** Writes at random, by turns here and with qemu-io, and compares with a plain array. */
export async function byTurns(
  path: string,
  size: number,
  seed: number,
  model: Uint8Array = new Uint8Array(size),
): Promise<void> {
  const next = random(seed)
  for (let turn = 0; turn < 6; turn++) {
    const edits = Array.from({ length: 8 }, () => {
      const offset = Math.floor((next() * size) / 512) * 512
      const length = Math.min(size - offset, 512 * (1 + Math.floor(next() * 300)))
      return { offset, length, byte: 1 + Math.floor(next() * 254) }
    })
    if (turn % 2 === 0 || !hasQemu) {
      await using image = await openPath(path, { writable: true })
      for (const { offset, length, byte } of edits) {
        const kind = next()
        if (kind < 0.15) await image.writeZeroes?.(offset, length)
        else await image.write?.(offset, new Uint8Array(length).fill(byte))
        model.fill(kind < 0.15 ? 0 : byte, offset, offset + length)
      }
    } else {
      const commands = edits.map(({ offset, length, byte }) => ['-c', `write -P ${byte} ${offset} ${length}`])
      const { status, stdout } = run('qemu-io', '-f', 'vmdk', ...commands.flat(), path)
      if (status !== 0) throw new Error(stdout)
      for (const { offset, length, byte } of edits) model.fill(byte, offset, offset + length)
    }
    await using image = await openPath(path)
    expect(Buffer.compare(await content(image), model)).toBe(0)
  }
  if (!hasQemu) return
  assertClean('vmdk', path)
  writeFileSync(`${path}.raw`, model)
  assertSame('vmdk', `${path}.raw`, path)
}
