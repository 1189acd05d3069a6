import { spawnSync } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { content, copy, create, open, patchFooter, pattern } from './support/images.js'
import { have, run, scratch } from './support/tools.js'

const size = 5_013_504
const block = 2 << 20

/** Images of all kinds, by name, and what a reader has to find in each. */
async function images(): Promise<Record<string, { file: Uint8Array; model: Uint8Array }>> {
  const made: Record<string, { file: Uint8Array; model: Uint8Array }> = {}
  const make = async (
    name: string,
    parent: string | undefined,
    options: Readonly<Record<string, unknown>>,
  ): Promise<void> => {
    const files = Object.fromEntries(Object.entries(made).map(([key, { file }]) => [key, file]))
    const storage = await create(size, { ...options, ...(parent && { backing_file: parent }) }, files)
    const disk = await open(storage, { writable: true, files })
    const model = made[parent ?? '']?.model.slice() ?? new Uint8Array(size)
    const seed = Object.keys(made).length
    for (const [offset, length] of [
      [seed * 1000, 700],
      [block - 3000 + seed * 512, 5000],
      [size - 512, 512],
    ] as const) {
      await disk.write?.(offset, pattern(length, seed + offset))
      model.set(pattern(length, seed + offset), offset)
    }
    await disk.close()
    made[name] = { file: copy(storage), model }
  }
  await make('fixed.vhd', undefined, { subformat: 'fixed' })
  await make('dynamic.vhd', undefined, {})
  await make('child.vhd', 'dynamic.vhd', {})
  await make('grandchild.vhd', 'child.vhd', {})
  await make('over-fixed.vhd', 'fixed.vhd', {})
  const grown = await create(size)
  const disk = await open(grown, { writable: true })
  await disk.write?.(1000, pattern(3000, 1))
  await disk.resize?.(260 << 20)
  const model = await content(disk)
  await disk.close()
  const file = copy(grown)
  // libvhdi takes the size from the footer's Original Size, which says what the disk had when it was made.
  for (const footer of [0, file.length - 512])
    patchFooter(file, footer, (view) => view.setUint32(44, 260 << 20))
  return { ...made, 'grown.vhd': { model, file } }
}

describe.skipIf(!have('vhdiinfo'))('next to vhdiinfo (skipped where libvhdi-utils are missing)', () => {
  const at = scratch()

  it('it says of our images what we say', async () => {
    const all = await images()
    for (const [name, { file }] of Object.entries(all)) {
      writeFileSync(at(name), file)
      const said = run('vhdiinfo', [at(name)])
      const field = (label: string): string | undefined => new RegExp(`${label}\\s*: (.*)`).exec(said)?.[1]
      const info = await (await open(file, { inspect: true })).info()
      expect(field('Media size'), name).toContain(`(${info.virtualSize} bytes)`)
      expect(field('Identifier')).toBe(info.extra?.uuid)
      expect(field('Parent identifier')).toBe(info.extra?.['parent-uuid'])
      expect(field('Parent filename')).toBe(info.extra?.['parent-name'])
      const types = { fixed: 'Fixed', dynamic: 'Dynamic', differencing: 'Differential' }
      expect(field('Disk type')).toBe(types[info.extra?.subformat as keyof typeof types])
    }
  })
})

/** Mounts an image, with its parents, and reads all of it; undefined where file systems cannot be mounted here. */
function readMounted(path: string, folder: string): Uint8Array | undefined {
  mkdirSync(folder)
  const mounted = spawnSync('vhdimount', [path, folder], { encoding: 'utf8' })
  if (mounted.status !== 0) {
    if (/fuse|permission/i.test(mounted.stdout + mounted.stderr)) return undefined
    throw new Error(`vhdimount ${path}: ${mounted.stdout}${mounted.stderr}`)
  }
  try {
    const layers = readdirSync(folder).sort()
    return new Uint8Array(readFileSync(join(folder, layers.at(-1) as string)))
  } finally {
    run('umount', [folder])
  }
}

describe.skipIf(!have('vhdimount'))('next to vhdimount (skipped where libvhdi-utils are missing)', () => {
  const at = scratch()

  it('it reads from our images, chains and all, what we wrote', async (context) => {
    const all = await images()
    for (const [name, { file }] of Object.entries(all)) writeFileSync(at(name), file)
    for (const [name, { model }] of Object.entries(all)) {
      const bytes = readMounted(at(name), at(`mount-${name}`))
      if (bytes === undefined) return context.skip('file systems in user space cannot be mounted here')
      expect(bytes.length, name).toBe(model.length)
      expect(Buffer.compare(bytes, model), name).toBe(0)
    }
  })
})
