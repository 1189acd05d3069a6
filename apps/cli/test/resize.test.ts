import { statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeEach, describe, expect, it } from 'vitest'
import { img, mustImg, temporaryDirectory, withoutExtras } from './support/cli.js'

const cwd = temporaryDirectory()
const path = join(cwd, 'a.raw')
const mebibyte = 1048576
const size = (): number => statSync(path).size

beforeEach(() => writeFileSync(path, Buffer.alloc(mebibyte, 'x')))

describe('resize', () => {
  it.each([
    [['2M'], 2 * mebibyte],
    [['+1M'], 2 * mebibyte],
    [['+1000'], mebibyte + 1000],
    [[' +2M'], 2 * mebibyte],
    [['+0'], mebibyte],
    [['--shrink', '512k'], mebibyte / 2],
    [['--shrink', '-1k'], mebibyte - 1024],
    [['--shrink', '1000'], 1000],
    [['--preallocation=full', '+64k'], mebibyte + 65536],
    [['--preallocation=falloc', '+64k'], mebibyte + 65536],
  ])('%j', async (args, expected) => {
    const [change = '', ...flags] = [...args].reverse()
    expect(await mustImg(['resize', '-f', 'raw', ...flags, 'a.raw', change], { cwd })).toBe(
      'Image resized.\n',
    )
    expect(size()).toBe(expected)
  })

  it('says nothing with -q', async () => {
    expect(await mustImg(['resize', '-q', '-f', 'raw', 'a.raw', '+1k'], { cwd })).toBe('')
  })

  const shrinking =
    "img: warning: Shrinking an image will delete all data beyond the shrunken image's end. " +
    'Before performing such an operation, make sure there is no important data there.'
  const tryHelp = "Try 'img --help' for more information"
  // qemu-img's words.
  it.each([
    [[], `img: Not enough arguments\n${tryHelp}\n`],
    [['a.raw'], `img: Not enough arguments\n${tryHelp}\n`],
    [['a.raw', 'b.raw', '1M'], `img: Expecting image file name and size\n${tryHelp}\n`],
    [
      ['a.raw', '1X'],
      `img: Parameter 'size' expects a non-negative number below 2^64\nOptional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\nand exabytes, respectively.\n`,
    ],
    [['-f', 'raw', 'a.raw', '0'], 'img: New image size must be positive\n'],
    [['-f', 'raw', 'a.raw', '-2M'], 'img: New image size must be positive\n'],
    [
      ['-f', 'raw', 'a.raw', '1000'],
      `img: Use the --shrink option to perform a shrink operation.\n${shrinking}\n`,
    ],
    [['--preallocation=foo', '-f', 'raw', 'a.raw', '2M'], "img: Invalid preallocation mode 'foo'\n"],
    [
      ['--preallocation=full', '--shrink', '-f', 'raw', 'a.raw', '-1k'],
      'img: Preallocation can only be used for growing images\n',
    ],
    [['no.raw', '1M'], "img: Could not open 'no.raw': Could not open 'no.raw': No such file or directory\n"],
  ])('refuses %j', async (args, message) => {
    const { code, stdout, stderr } = await img(['resize', ...args], { cwd })
    expect([code, stdout, withoutExtras(stderr)]).toEqual([1, '', message])
    expect(size()).toBe(mebibyte)
  })

  it('does not guess that a file is raw', async () => {
    const { code, stderr } = await img(['resize', 'a.raw', '2M'], { cwd })
    expect(code).toBe(1)
    expect(stderr).toContain('-f raw')
    expect(size()).toBe(mebibyte)
  })
})
