import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { img, mustImg, runProgram, temporaryDirectory, withoutExtras } from './support/cli.js'
import { hasQemu7 } from './support/qemu.js'

const cwd = temporaryDirectory()

describe('create', () => {
  it('raw: a file of that size, all hole', async () => {
    expect(await mustImg(['create', '-f', 'raw', 'a.raw', '1M'], { cwd })).toBe(
      "Formatting 'a.raw', fmt=raw size=1048576\n",
    )
    expect(statSync(join(cwd, 'a.raw')).size).toBe(1048576)
    expect(await mustImg(['create', '-q', 'b.raw', '1000'], { cwd })).toBe('')
    expect(statSync(join(cwd, 'b.raw')).size).toBe(1000)
  })

  it('replaces what was there', async () => {
    writeFileSync(join(cwd, 'old.raw'), 'old content')
    await mustImg(['create', '-q', '-f', 'raw', 'old.raw', '4k'], { cwd })
    expect(readFileSync(join(cwd, 'old.raw'))).toEqual(Buffer.alloc(4096))
  })

  it('an overlay takes the size of its backing file, and its content', async () => {
    writeFileSync(join(cwd, 'base.raw'), Buffer.alloc(70_000, 'b'))
    const said = await mustImg(['create', '-f', 'qcow2', '-b', 'base.raw', '-F', 'raw', 'o.qcow2'], { cwd })
    expect(said).toContain(' size=70144 backing_file=base.raw backing_fmt=raw ')
    await mustImg(['convert', '-f', 'qcow2', '-O', 'raw', 'o.qcow2', 'o.raw'], { cwd })
    expect(readFileSync(join(cwd, 'o.raw')).subarray(0, 70_000)).toEqual(Buffer.alloc(70_000, 'b'))
  })

  it('finds a backing file from the directory of the new image', async () => {
    await mustImg(['create', '-q', '-f', 'raw', 'sub.raw', '1M'], { cwd })
    const { code, stderr } = await img(
      ['create', '-f', 'qcow2', '-b', 'sub.raw', '-F', 'raw', '../x.qcow2'],
      {
        cwd: join(cwd),
      },
    )
    expect([code, withoutExtras(stderr)]).toEqual([
      1,
      "img: ../x.qcow2: Could not open '../sub.raw': No such file or directory\nCould not open backing image.\n",
    ])
  })

  it('makes a data file, which may be anywhere: the user named it', async () => {
    await mustImg(
      ['create', '-q', '-f', 'qcow2', '-o', 'data_file=data.raw,data_file_raw=on', 'd.qcow2', '1M'],
      { cwd },
    )
    expect(existsSync(join(cwd, 'data.raw'))).toBe(true)
    expect(await mustImg(['info', 'd.qcow2'], { cwd })).toContain('data file: data.raw\n')
  })

  it('leaves no file behind where it fails', async () => {
    const { code } = await img(['create', '-f', 'qcow2', '-o', 'cluster_size=100', 'never.qcow2', '1M'], {
      cwd,
    })
    expect(code).toBe(1)
    expect(readdirSync(cwd).filter((name) => /never|part$/.test(name))).toEqual([])
  })

  it('refuses an image as its own backing file, by whatever name', async () => {
    await mustImg(['create', '-q', '-f', 'qcow2', 'self.qcow2', '1M'], { cwd })
    for (const name of ['self.qcow2', './self.qcow2', join(cwd, 'self.qcow2')]) {
      const { code, stderr } = await img(['create', '-f', 'qcow2', '-b', name, '-F', 'qcow2', 'self.qcow2'], {
        cwd,
      })
      expect(code).toBe(1)
      expect(stderr).toContain('Trying to create an image with the same filename as the backing file')
    }
  })
})

// The same arguments in two directories, one for each program.
describe.skipIf(!hasQemu7)('create says what qemu-img says (skipped without qemu-img 7.2)', () => {
  const theirs = temporaryDirectory()
  const ours = temporaryDirectory()
  it.each([
    [[]],
    [['a.img', '1M', '2M']],
    [['a.img', '-1']],
    [['-x']],
    [['-f']],
    [['-f', 'qcow2', 'a.img', '1P']],
    [['-f', 'qcow2', '-o', 'size=1M', 'a.img']],
    [['-f', 'qcow2', '-o', 'size=1M', 'a.img', '2M']],
    [['-f', 'qcow2', '-o', 'size=1M', '-o', 'cluster_size=4k', 'a.img']],
    [['-f', 'qcow2', '-o', ',size=1M', 'a.img']],
    [['-f', 'qcow2', '-o', 'size=1M,', 'a.img']],
    [['-f', 'qcow2', '-o', '', 'a.img']],
    [['-f', 'qcow2', '-o', 'lazy_refcounts', 'a.img', '1M']],
    [['-f', 'qcow2', '-o', 'nolazy_refcounts', 'a.img', '1M']],
    [['-f', 'qcow2', '-o', 'lazy_refcounts=maybe', 'a.img', '1M']],
    [['-f', 'qcow2', '-o', 'cluster_size=abc', 'a.img', '1M']],
    [['-f', 'qcow2', '-o', 'cluster_size=', 'a.img', '1M']],
    [['-f', 'qcow2', '-o', 'refcount_bits=abc', 'a.img', '1M']],
    [['-f', 'qcow2', '-o', 'refcount_bits=8k', 'a.img', '1M']],
    [['-f', 'qcow2', '-o', 'preallocation=bad', 'a.img', '1M']],
    [['-f', 'qcow2', '-o', 'preallocation=metadata,compat=v3', 'a.img', '1M']],
    [['-f', 'qcow2', '-F', 'raw', '-b', 'a.raw', 'ov.img']],
    [['-f', 'qcow2', '-F', 'raw', '-b', 'a.raw', 'ov.img', '4M']],
    [['-f', 'qcow2', '-F', 'nosuch', '-b', 'a.raw', 'ov.img']],
    [['-f', 'qcow2', '-F', 'raw', '-b', 'ov.img', 'ov.img']],
    [['-f', 'qcow2', '-F', 'raw', 'a.img', '1M']],
    [['-f', 'qcow2', '-u', '-b', 'nosuch', 'a.img']],
    [['-f', 'qcow2', '-u', '-b', 'nosuch', '-F', 'raw', 'a.img']],
    [['-f', 'qcow2', '-u', '-b', 'nosuch', '-F', 'raw', 'a.img', '1M']],
    [
      [
        '-f',
        'qcow2',
        '-b',
        'a.raw',
        '-F',
        'raw',
        '-o',
        'backing_file=x.qcow2,backing_fmt=qcow2',
        'a.img',
        '4M',
      ],
    ],
    [['-f', 'raw', '-F', 'raw', 'a.img', '4M']],
    [['-f', 'raw', '-o', 'preallocation=full', 'a.img', '4k']],
    [['nosuchdir/a.img', '4k']],
    [['-f', 'qcow2', '-o', 'data_file=x.raw', 'd.qcow2', '1M']],
    [['-qf', 'qcow2', 'a.img', '1M']],
    [['-f', 'qcow2', 'we,ird name', '1M']],
    [['-f', 'qcow2', '-b', 'we,ird name', '-F', 'qcow2', 'y.qcow2']],
  ])('%j', async (args) => {
    for (const directory of [ours, theirs]) writeFileSync(join(directory, 'a.raw'), Buffer.alloc(1048576))
    const them = await runProgram('qemu-img', ['create', ...args], { cwd: theirs })
    const us = await img(['create', ...args], { cwd: ours })
    expect({ ...us, stderr: withoutExtras(us.stderr) }).toEqual({
      code: them.code,
      stdout: them.stdout,
      stderr: them.stderr.replaceAll('qemu-img', 'img'),
    })
  })
})

describe('a target with a protocol', () => {
  it('file: is a path', async () => {
    const cwd = temporaryDirectory()
    expect(await mustImg(['create', '-f', 'raw', 'file:a.raw', '1M'], { cwd })).toBe(
      "Formatting 'file:a.raw', fmt=raw size=1048576\n",
    )
    await mustImg(['convert', '-f', 'raw', '-O', 'qcow2', 'file:a.raw', 'file:b.qcow2'], { cwd })
    await mustImg(['dd', '-f', 'raw', '-O', 'raw', 'if=file:a.raw', 'of=file:c.raw'], { cwd })
    expect(readdirSync(cwd).sort()).toEqual(['a.raw', 'b.qcow2', 'c.raw'])
  })

  it('another is refused, and no file of that name made', async () => {
    const cwd = temporaryDirectory()
    await mustImg(['create', '-q', '-f', 'raw', 'a.raw', '1M'], { cwd })
    for (const [said, args] of [
      ["nbd:host:1: Unknown protocol 'nbd'", ['create', '-f', 'raw', 'nbd:host:1', '1M']],
      ["Unknown protocol 'nbd'", ['convert', '-f', 'raw', 'a.raw', 'nbd://host/x']],
      ["Unknown protocol 'nbd'", ['convert', '--dry-run', '-f', 'raw', 'a.raw', 'nbd://host/x']],
      ["Unknown protocol 'nbd'", ['dd', '-f', 'raw', 'if=a.raw', 'of=nbd:x']],
      ["Could not open 'nbd:x': Unknown protocol 'nbd'", ['info', 'nbd:x']],
    ] as const) {
      const { code, stderr } = await img([...args], { cwd })
      expect([code, stderr]).toEqual([1, expect.stringMatching(new RegExp(`^img: ${said}\n`))])
    }
    expect(readdirSync(cwd)).toEqual(['a.raw'])
    // On Windows a colon in a name means something else.
    if (process.platform === 'win32') return
    await mustImg(['create', '-q', '-f', 'raw', './odd:name', '1M'], { cwd })
    expect(readdirSync(cwd).sort()).toEqual(['a.raw', 'odd:name'])
  })
})
