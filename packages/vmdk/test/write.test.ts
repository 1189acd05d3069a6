import { copyFileSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { commit, createImage, ImageError, rebase } from '@img/core'
import { content } from '@tooling/test-disks/disks'
import { assertClean, hasQemu, run } from '@tooling/test-disks/qemu'
import { FileStorage } from '@tooling/test-disks/storage'
import { describe, expect, it } from 'vitest'
import { vmdk } from '../src/format.js'
import { registry } from './support/disks.js'
import { beside, openPath, temporaryFolder } from './support/folder.js'
import { byTurns } from './support/turns.js'

const folder = temporaryFolder('vmdk-write-')

async function create(name: string, size: number, options: Record<string, string> = {}): Promise<string> {
  const path = join(folder, name)
  const target = new FileStorage(path)
  await createImage(vmdk, target, { size, options, references: beside })
  await target.close()
  return path
}

async function cidOf(path: string): Promise<number> {
  await using image = await openPath(path, { chain: false })
  return (await image.info()).specific?.cid as number
}

describe('by turns with qemu-io', () => {
  const size = 9_000_448
  const cases: Record<string, string>[] = [
    {},
    { zeroed_grain: 'on' },
    { grain_size: '8k' },
    { subformat: 'monolithicFlat' },
    { subformat: 'twoGbMaxExtentSparse' },
    { subformat: 'twoGbMaxExtentFlat' },
  ]
  cases.forEach((options, index) => {
    it(JSON.stringify(options), async () => {
      const path = await create(`turns${index}.vmdk`, size, options)
      const before = await cidOf(path)
      await byTurns(path, size, index + 5)
      expect(await cidOf(path)).not.toBe(before)
    })
  })

  it.skipIf(!hasQemu)('images that qemu-img made', async () => {
    for (const subformat of ['monolithicSparse', 'twoGbMaxExtentSparse', 'monolithicFlat']) {
      const path = join(folder, `made-${subformat}.vmdk`)
      run('qemu-img', 'create', '-f', 'vmdk', '-o', `subformat=${subformat}`, path, String(size))
      await byTurns(path, size, 31)
    }
  })

  it('across extents of 2 GiB', async () => {
    const path = await create('wide.vmdk', 2 ** 32 + 1_000_448, { subformat: 'twoGbMaxExtentSparse' })
    const bytes = new Uint8Array(300_032).fill(9)
    for (const offset of [2 ** 31 - 100_000, 2 ** 32 - 4096]) {
      await using image = await openPath(path, { writable: true })
      await image.write?.(offset, bytes)
    }
    if (hasQemu) {
      const { stdout } = run('qemu-io', '-f', 'vmdk', '-c', `read -P 9 ${2 ** 31 - 100_000} 300032`, path)
      expect(stdout).toContain('read 300032/300032')
      expect(stdout).not.toContain('failed')
    }
    await using image = await openPath(path)
    const read = new Uint8Array(bytes.length)
    await image.read(2 ** 32 - 4096, read)
    expect(Buffer.compare(read, bytes)).toBe(0)
  })
})

describe('content ids', () => {
  it('change with the first write after opening, and only then', async () => {
    const path = await create('cid.vmdk', 1_048_576)
    const before = await cidOf(path)
    await (await openPath(path, { writable: true })).close()
    expect(await cidOf(path)).toBe(before)
    const file = readFileSync(path)
    await using image = await openPath(path, { writable: true })
    await image.write?.(0, new Uint8Array(512).fill(1))
    await image.flush?.()
    const changed = await cidOf(path)
    expect(changed).not.toBe(before)
    await image.write?.(512, new Uint8Array(512).fill(1))
    await image.flush?.()
    expect(await cidOf(path)).toBe(changed)
    const text = readFileSync(path).subarray(512, 10_752).toString('latin1')
    expect(text.length).toBe(file.subarray(512, 10_752).length)
    expect(/longContentID = "[0-9a-f]{24}([0-9a-f]{8})"/.exec(text)?.[1]).toBe(
      changed.toString(16).padStart(8, '0'),
    )
  })
})

describe('a chain', () => {
  const size = 3_000_320

  async function chain(
    name: string,
    options: Record<string, string> = {},
  ): Promise<{ base: string; top: string; model: Uint8Array }> {
    const base = await create(`${name}-base.vmdk`, size)
    const model = new Uint8Array(size)
    {
      await using image = await openPath(base, { writable: true })
      await image.write?.(0, new Uint8Array(1_000_000).fill(5))
      model.fill(5, 0, 1_000_000)
    }
    const top = await create(`${name}-top.vmdk`, size, { backing_file: `${name}-base.vmdk`, ...options })
    return { base, top, model }
  }

  it('is written on top, by turns with qemu-io', async () => {
    for (const zeroed_grain of ['off', 'on']) {
      const { top, model } = await chain(`turns-${zeroed_grain}`, { zeroed_grain })
      await byTurns(top, size, 77, model)
    }
  })

  it('is refused once its parent was written, and mended by naming it again', async () => {
    const { base, top, model } = await chain('broken')
    {
      await using image = await openPath(base, { writable: true })
      await image.write?.(2_000_384, new Uint8Array(512).fill(8))
      model.fill(8, 2_000_384, 2_000_896)
    }
    const failed = await openPath(top).catch((error) => error)
    expect(ImageError.is(failed, 'IMG_CORRUPT')).toBe(true)
    expect((failed as Error).message).toMatch(/chain is broken/)
    {
      await using image = await openPath(top, { writable: true, chain: false })
      await image.setBacking?.({ kind: 'backing', name: 'broken-base.vmdk', format: 'vmdk' })
    }
    await using image = await openPath(top)
    expect(Buffer.compare(await content(image), model)).toBe(0)
    if (hasQemu) expect(run('qemu-img', 'convert', '-O', 'raw', top, join(folder, 'x.raw')).status).toBe(0)
  })

  it('is committed: base and overlay read as before, and still fit', async () => {
    const { base, top, model } = await chain('commit')
    {
      await using image = await openPath(top, { writable: true })
      await image.write?.(500_224, new Uint8Array(900_096).fill(6))
      model.fill(6, 500_224, 1_400_320)
    }
    {
      await using image = await openPath(top, { writable: true, writableBacking: () => true })
      expect((await commit(image)).emptied).toBe(true)
    }
    for (const path of [base, top]) {
      await using image = await openPath(path)
      expect(Buffer.compare(await content(image), model)).toBe(0)
    }
    if (hasQemu) assertClean('vmdk', top)
  })

  it('is rebased onto a copy, and onto nothing', async () => {
    const { base, top, model } = await chain('rebase')
    copyFileSync(base, join(folder, 'rebase-copy.vmdk'))
    for (const name of ['rebase-copy.vmdk', undefined]) {
      await using image = await openPath(top, { writable: true })
      const other = name === undefined ? undefined : await openPath(join(folder, name))
      await rebase(image, {
        reference: name === undefined ? undefined : { kind: 'backing', name, format: 'vmdk' },
        backing: other,
      })
      await other?.close()
      await image.close()
      await using again = await openPath(top)
      expect(again.driver.backing?.name).toBe(name)
      expect(Buffer.compare(await content(again), model)).toBe(0)
    }
  })
})

describe('resizing', () => {
  for (const subformat of [
    'monolithicSparse',
    'monolithicFlat',
    'twoGbMaxExtentSparse',
    'twoGbMaxExtentFlat',
  ]) {
    it(subformat, async () => {
      const path = await create(`resize-${subformat}.vmdk`, 5_000_192, { subformat })
      const sizes = [40_000_512, 700_416, 71_000_064, 1_048_576]
      let model: Uint8Array = new Uint8Array(5_000_192)
      for (const [index, size] of sizes.entries()) {
        {
          await using image = await openPath(path, { writable: true })
          const at = image.size - 100_352
          await image.write?.(at, new Uint8Array(100_352).fill(index + 1))
          model.fill(index + 1, at)
          await image.resize?.(size, { shrink: true })
          const grown = new Uint8Array(size)
          grown.set(model.subarray(0, size))
          model = grown
          await image.write?.(size - 512, new Uint8Array(512).fill(77))
          model.fill(77, size - 512)
        }
        await using image = await openPath(path)
        expect(image.size).toBe(size)
        expect(Buffer.compare(await content(image), model)).toBe(0)
        if (!hasQemu) continue
        assertClean('vmdk', path)
        writeFileSync(join(folder, 'resized.raw'), model)
        const { stdout } = run(
          'qemu-img',
          'compare',
          '-f',
          'raw',
          '-F',
          'vmdk',
          join(folder, 'resized.raw'),
          path,
        )
        expect(stdout).toContain('identical')
      }
    })
  }

  for (const subformat of ['twoGbMaxExtentSparse', 'twoGbMaxExtentFlat']) {
    it(`${subformat}: with more extents, and fewer`, async () => {
      const name = `grow-${subformat}`
      const path = await create(`${name}.vmdk`, 1_048_576, { subformat })
      const edge = 2 ** 31
      const mark = new Uint8Array(131_072).fill(9)
      {
        await using image = await openPath(path, { writable: true })
        await image.write?.(1_048_576 - 512, mark.subarray(0, 512))
        await image.resize?.(2 * edge + 1_000_448)
        expect(image.size).toBe(2 * edge + 1_000_448)
        // Open for writing still, across both new edges.
        for (const at of [edge - 65_536, 2 * edge - 512]) await image.write?.(at, mark)
      }
      const letter = subformat.endsWith('Flat') ? 'f' : 's'
      expect(readFileSync(path, 'latin1').match(/^RW \d+ (FLAT|SPARSE) ".*"/gm)).toEqual(
        [4_194_304, 4_194_304, 1954].map(
          (sectors, i) =>
            `RW ${sectors} ${letter === 'f' ? 'FLAT' : 'SPARSE'} "${name}-${letter}00${i + 1}.vmdk"`,
        ),
      )
      if (hasQemu) {
        for (const at of [edge - 65_536, 2 * edge - 512]) {
          const { stdout } = run('qemu-io', '-f', 'vmdk', '-c', `read -P 9 ${at} ${mark.length}`, path)
          expect(stdout).toMatch(/^read 131072/m)
          expect(stdout).not.toContain('failed')
        }
      }
      const warnings: string[] = []
      {
        const onWarning = (message: string): number => warnings.push(message)
        await using image = await openPath(path, { writable: true, onWarning })
        await image.resize?.(edge - 65_024, { shrink: true })
      }
      expect(warnings.join()).toMatch(/f?00[23].vmdk is no part/)
      {
        await using image = await openPath(path)
        expect(image.size).toBe(edge - 65_024)
        const read = new Uint8Array(512)
        await image.read(edge - 65_536, read)
        expect(Buffer.compare(read, mark.subarray(0, 512))).toBe(0)
        if (hasQemu)
          expect(run('qemu-img', 'info', '-f', 'vmdk', path).stdout).toContain(`${edge - 65_024} bytes`)
      }
      // What stands under the name of a new extent is somebody's.
      await using image = await openPath(path, { writable: true })
      const failed = await image.resize?.(edge + 512).catch((error) => error)
      expect(failed).toBeInstanceOf(Error)
      expect(image.size).toBe(edge - 65_024)
      await image.write?.(0, mark)
    })
  }

  it('does not make files where that is not allowed', async () => {
    const path = await create('limit.vmdk', 1_048_576, { subformat: 'twoGbMaxExtentSparse' })
    await using image = await openPath(path, { writable: true, references: { open: beside.open } })
    const failed = await image.resize?.(2 ** 31 + 512).catch((error) => error)
    expect(ImageError.is(failed, 'IMG_REFERENCE_DENIED')).toBe(true)
  })
})

it('refuses to write where extents would show in each other', async () => {
  const sparse = await create('twice-one.vmdk', 1_048_576, { subformat: 'twoGbMaxExtentSparse' })
  writeFileSync(join(folder, 'twice.bin'), new Uint8Array(10_240))
  const text = `# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType="custom"\n`
  const cases: [lines: string[], ok: boolean][] = [
    [['RW 8 FLAT "twice.bin" 8', 'RW 8 FLAT "twice.bin" 0', 'RW 4 FLAT "twice.bin" 16'], true],
    [['RW 8 FLAT "twice.bin" 0', 'RW 8 FLAT "twice.bin" 7'], false],
    [['RW 2048 SPARSE "twice-one-s001.vmdk"', 'RW 2048 SPARSE "twice-one-s001.vmdk"'], false],
  ]
  expect(sparse).toContain('twice-one')
  const path = join(folder, 'twice.vmdk')
  for (const [lines, ok] of cases) {
    writeFileSync(path, `${text}${lines.join('\n')}\n${'#'.repeat(512)}\n`)
    await (await openPath(path)).close()
    const opened = await openPath(path, { writable: true }).catch((error: unknown) => error)
    if (ok) await (opened as Awaited<ReturnType<typeof openPath>>).close()
    else expect(ImageError.is(opened, 'IMG_UNSUPPORTED'), lines.join()).toBe(true)
  }
})

it('refuses to write what it can only read', async () => {
  const path = await create('stream.vmdk', 1_048_576, { subformat: 'streamOptimized' })
  const failed = await openPath(path, { writable: true }).catch((error) => error)
  expect(ImageError.is(failed, 'IMG_UNSUPPORTED')).toBe(true)
  expect(registry.get('vmdk')).toBe(vmdk)
})
