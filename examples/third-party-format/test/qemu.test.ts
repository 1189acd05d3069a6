import { closeSync, openSync, readFileSync, writeFileSync, writeSync } from 'node:fs'
import { memoryStorage } from '@img/core'
import { describe, expect, it } from 'vitest'
import { content, copy, create, open, pattern } from './support/images.js'
import { have, run, scratch } from './support/tools.js'

/** The fields of a footer that do not differ from one making to the next. */
function lasting(footer: Uint8Array): string {
  const bytes = Buffer.from(footer)
  bytes.fill(0, 24, 28) // time
  bytes.fill(0, 64, 84) // checksum, UUID
  return bytes.toString('hex')
}

describe.skipIf(!have('qemu-img') || !have('qemu-io'))(
  'next to qemu-img and qemu-io (skipped where they are missing)',
  () => {
    const at = scratch()

    it.each([
      0,
      1,
      512,
      34_816,
      34_817,
      1_000_000,
      1 << 20,
      4 << 20,
      100_000_000,
      504 * 1024 ** 2,
      8_455_200_768,
      33_822_867_456,
      33_822_867_457,
      127 * 1024 ** 3,
      136_899_993_600,
      136_899_993_601,
      2040 * 1024 ** 3,
    ])('an empty disk of %i bytes has the same metadata', async (size) => {
      for (const force of ['off', 'on']) {
        run('qemu-img', [
          'create',
          '-q',
          '-f',
          'vpc',
          '-o',
          `force_size=${force}`,
          at('theirs.vhd'),
          String(size),
        ])
        const theirs = readFileSync(at('theirs.vhd'))
        const ours = copy(await create(size, { force_size: force }))
        expect(ours.length).toBe(theirs.length)
        expect(lasting(ours.subarray(0, 512))).toBe(lasting(theirs.subarray(0, 512)))
        expect(lasting(ours.subarray(-512))).toBe(lasting(theirs.subarray(-512)))
        expect(Buffer.from(ours.subarray(512, -512)).equals(theirs.subarray(512, -512))).toBe(true)
      }
    })

    it.each(['dynamic', 'fixed'])('each reads and changes what the other wrote: %s', async (subformat) => {
      const qemuIo = (format: string, name: string, ...commands: readonly string[]): string =>
        run('qemu-io', ['-f', format, ...commands.flatMap((command) => ['-c', command]), at(name)])
      run('qemu-img', ['create', '-q', '-f', 'vpc', '-o', `subformat=${subformat}`, at('disk.vhd'), '9M'])
      const size = JSON.parse(run('qemu-img', ['info', '--output=json', '-f', 'vpc', at('disk.vhd')]))[
        'virtual-size'
      ]
      writeFileSync(at('model.raw'), new Uint8Array(size))
      for (let round = 0; round < 3; round++) {
        // The last of these ends at the end of the disk.
        const theirs = [
          `write -P ${17 + round} ${round * 1000}k 700k`,
          `write -P ${9 + round} ${size - 512} 512`,
        ]
        qemuIo('vpc', 'disk.vhd', ...theirs)
        qemuIo('raw', 'model.raw', ...theirs)
        const storage = memoryStorage(new Uint8Array(readFileSync(at('disk.vhd'))))
        const disk = await open(storage, { writable: true })
        expect(same(await content(disk), readFileSync(at('model.raw')))).toBe(true)
        const ours = pattern(300_001, round)
        const offset = 3 * 1024 * 1024 * round + 1_999_999
        await disk.write?.(offset, ours)
        await disk.close()
        writeFileSync(at('disk.vhd'), copy(storage))
        writeAt(at('model.raw'), offset, ours)
        expectSame('disk.vhd', 'model.raw')
      }
    })

    it('what we zero and discard, qemu sees as zero', async () => {
      const target = await create(9 << 20)
      const disk = await open(target, { writable: true })
      const model = pattern(disk.size, 3)
      await disk.write?.(0, model)
      await disk.flush?.()
      await disk.discard?.(0, 4 << 20)
      await disk.writeZeroes?.((5 << 20) + 100, 3 << 20)
      await disk.flush?.()
      // Goes where a discarded block was.
      await disk.write?.((1 << 20) + 5, pattern(1000, 4))
      await disk.close()
      model.fill(0, 0, 4 << 20).fill(0, (5 << 20) + 100, (8 << 20) + 100)
      model.set(pattern(1000, 4), (1 << 20) + 5)
      writeFileSync(at('zeroed.vhd'), copy(target))
      writeFileSync(at('zeroed.raw'), model)
      expectSame('zeroed.vhd', 'zeroed.raw')
    })

    it.each(['dynamic', 'fixed'])('a grown disk is as large and holds the same: %s', async (subformat) => {
      const target = await create(4 << 20, { subformat })
      const size = (4 << 20) + 300 * 1024 * 1024
      const disk = await open(target, { writable: true })
      await disk.write?.(0, pattern(5000, 1))
      await disk.resize?.(size)
      await disk.write?.(size - 700, pattern(700, 2))
      await disk.close()
      writeFileSync(at('grown.vhd'), copy(target))
      run('qemu-img', ['create', '-q', '-f', 'raw', at('grown.raw'), String(size)])
      writeAt(at('grown.raw'), 0, pattern(5000, 1))
      writeAt(at('grown.raw'), size - 700, pattern(700, 2))
      expectSame('grown.vhd', 'grown.raw')
    })

    function expectSame(vhd: string, raw: string): void {
      const said = run('qemu-img', ['compare', '-f', 'vpc', '-F', 'raw', at(vhd), at(raw)])
      expect(said.trim()).toBe('Images are identical.')
    }
  },
)

function same(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0
}

function writeAt(path: string, offset: number, bytes: Uint8Array): void {
  const file = openSync(path, 'r+')
  writeSync(file, bytes, 0, bytes.length, offset)
  closeSync(file)
}
