import { copyFileSync, mkdirSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { img, mustImg, temporaryDirectory } from './support/cli.js'

const cwd = temporaryDirectory()
const run = { cwd }
const mebibyte = 1048576

/** A raw disk of 3 MiB filled with a letter. */
function raw(name: string, letter: string): void {
  writeFileSync(join(cwd, name), Buffer.alloc(3 * mebibyte, letter))
}

describe('a parent that is known by its UUID', () => {
  it('is found beside the image, by whatever name; or where it is said to be', async () => {
    raw('a.raw', 'a')
    await mustImg(['convert', '-f', 'raw', '-O', 'vdi', 'a.raw', 'parent.vdi'], run)
    await mustImg(['create', '-q', '-f', 'vdi', '-b', 'parent.vdi', '-F', 'vdi', 'child.vdi'], run)
    renameSync(join(cwd, 'parent.vdi'), join(cwd, 'renamed'))
    await mustImg(['compare', '-f', 'vdi', '-F', 'raw', 'child.vdi', 'a.raw'], run)
    mkdirSync(join(cwd, 'below'))
    renameSync(join(cwd, 'renamed'), join(cwd, 'below', 'parent.vdi'))
    const lost = await img(['compare', '-f', 'vdi', '-F', 'raw', 'child.vdi', 'a.raw'], run)
    expect(lost.code).not.toBe(0)
    expect(lost.stderr).toMatch(/--open parent=FILE/)
    const there = ['--image-opts', 'driver=vdi,parent=below/parent.vdi,file.filename=child.vdi']
    await mustImg(['convert', ...there, '-O', 'raw', 'child.raw'], run)
    await mustImg(['compare', '-f', 'raw', '-F', 'raw', 'child.raw', 'a.raw'], run)
  })

  it('takes what is committed, and its child still knows it', async () => {
    raw('b.raw', 'b')
    raw('c.raw', 'c')
    const other = temporaryDirectory()
    const there = { cwd: other }
    for (const name of ['b.raw', 'c.raw']) copyFileSync(join(cwd, name), join(other, name))
    await mustImg(['convert', '-f', 'raw', '-O', 'vdi', 'b.raw', 'p.vdi'], there)
    await mustImg(
      ['convert', '-f', 'raw', '-O', 'vdi', '-B', 'p.vdi', '-F', 'vdi', 'c.raw', 'top.vdi'],
      there,
    )
    expect(await mustImg(['commit', '-f', 'vdi', 'top.vdi'], there)).toBe('Image committed.\n')
    for (const name of ['top.vdi', 'p.vdi']) {
      await mustImg(['compare', '-f', 'vdi', '-F', 'raw', name, 'c.raw'], there)
    }
    const chain = await mustImg(['info', '--backing-chain', 'top.vdi'], there)
    expect(chain).toMatch(/backing file: [0-9a-f-]{36} \(actual path: p\.vdi\)\n[\s\S]*\nimage: p\.vdi\n/)
    await mustImg(['create', '-q', '-f', 'vdi', '-b', 'top.vdi', '-F', 'vdi', 'above.vdi'], there)
    await mustImg(['rebase', '-b', '', 'above.vdi'], there)
    await mustImg(['rebase', '-u', '-b', 'top.vdi', '-F', 'vdi', 'above.vdi'], there)
    expect(await mustImg(['commit', '-b', 'p.vdi', 'above.vdi'], there)).toBe('Image committed.\n')
    await mustImg(['compare', '-f', 'vdi', '-F', 'raw', 'p.vdi', 'c.raw'], there)
    await mustImg(['rebase', '-u', '-f', 'vdi', '-b', '', 'top.vdi'], there)
    expect(await mustImg(['info', '-f', 'vdi', 'top.vdi'], there)).not.toContain('backing')
  })
})

describe.each(['qcow', 'cow'])('%s', (format) => {
  it('keeps its content over another backing file', async () => {
    raw('one.raw', '1')
    raw('two.raw', '2')
    const args = ['create', '-q', '-f', format, '-b', 'one.raw', '-F', 'raw', `top.${format}`]
    await mustImg(args, run)
    await mustImg(['rebase', '-f', format, '-b', 'two.raw', '-F', 'raw', `top.${format}`], run)
    await mustImg(['compare', '-f', format, '-F', 'raw', `top.${format}`, 'one.raw'], run)
    expect(await mustImg(['check', '-f', format, `top.${format}`], run)).toContain('No errors were found')
    // Its format is not recorded: it is written as raw all the same.
    expect(await mustImg(['commit', '-f', format, `top.${format}`], run)).toBe('Image committed.\n')
    await mustImg(['compare', '-f', 'raw', '-F', 'raw', 'two.raw', 'one.raw'], run)
  })
})
