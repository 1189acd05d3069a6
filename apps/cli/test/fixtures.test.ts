import { createHash } from 'node:crypto'
import { closeSync, createReadStream, existsSync, openSync, readSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { describe, expect, it } from 'vitest'
import { img, runProgram, temporaryDirectory } from './support/cli.js'
import { fixtures, hasFixtures, unpack } from './support/fixtures.js'
import { hasQemu7 } from './support/qemu.js'

const directory = temporaryDirectory()

async function sha256(path: string): Promise<string> {
  const hash = createHash('sha256')
  await pipeline(createReadStream(path), hash)
  return hash.digest('hex')
}

function rangeSha256(path: string, offset: number, length: number): string {
  const fd = openSync(path, 'r')
  const bytes = Buffer.alloc(length)
  readSync(fd, bytes, 0, length, offset)
  closeSync(fd)
  return createHash('sha256').update(bytes).digest('hex')
}

/** Keys of qemu-img's answer whose value must be the same; what depends on the host's file system is left out. */
function common(theirs: unknown, ours: unknown): unknown {
  if (Array.isArray(theirs) && Array.isArray(ours)) return theirs.map((each, i) => common(each, ours[i]))
  if (typeof theirs !== 'object' || theirs === null) return theirs
  return Object.fromEntries(
    Object.entries(theirs)
      .filter(([key]) => key !== 'actual-size')
      .map(([key, value]) => [key, common(value, (ours as Record<string, unknown> | undefined)?.[key])]),
  )
}

interface Entry {
  readonly start: number
  readonly length: number
  readonly depth: number
  readonly present: boolean
  readonly zero: boolean
  readonly data: boolean
  readonly offset?: number
}

/** Which guest bytes live where. Whether the host has a hole in a data cluster depends on how the file was copied. */
function places(map: unknown): Entry[] {
  const joined: Entry[] = []
  for (const entry of map as Entry[]) {
    const next = { ...entry, zero: entry.zero && !entry.data }
    const last = joined[joined.length - 1]
    if (last === undefined || !continues(last, next)) joined.push(next)
    else joined[joined.length - 1] = { ...last, length: last.length + next.length }
  }
  return joined
}

function continues(last: Entry, next: Entry): boolean {
  const follows = last.offset === undefined ? undefined : last.offset + last.length
  return (
    last.depth === next.depth &&
    last.present === next.present &&
    last.zero === next.zero &&
    last.data === next.data &&
    follows === next.offset
  )
}

/** Images that need a plugin which is not there yet, and what the refusal must name. */
const needsPlugin: Readonly<Record<string, string>> = {
  'chain/over-vpc.qcow2': "Unknown file format 'vpc'",
}
/** Images that name other files in a way that is not followed unless allowed. */
const needsAllowing = ['chain/json-backing.qcow2']

describe.skipIf(!hasFixtures)('images of the collection (skipped where there is none)', () => {
  const readable = fixtures.filter(
    ({ expect: expected, file }) => expected === 'ok' && needsPlugin[file] === undefined,
  )
  it.concurrent.each(readable.map((fixture) => [fixture.file, fixture] as const))(
    '%s',
    async (file, fixture) => {
      unpack(fixture, directory)
      const run = { cwd: directory }
      const allow: string[] = []
      if (needsAllowing.includes(file)) {
        const { code, stderr } = await img(['map', file], run)
        expect(code).toBe(1)
        expect(stderr).toMatch(/not opened\n.*--allow-ref all/s)
        allow.push('--allow-ref', 'all')
      }
      if (fixture.info?.rc === 0) {
        const info = await img(['info', '--output=json', file], run)
        expect(info.code, info.stderr).toBe(0)
        const ours = JSON.parse(info.stdout) as unknown
        expect(ours).toMatchObject(common(fixture.info.json, ours) as object)
      }
      if (fixture.map?.rc === 0) {
        const map = await img(['map', ...allow, '--output=json', file], run)
        expect(map.code, map.stderr).toBe(0)
        expect(places(JSON.parse(map.stdout))).toEqual(places(fixture.map.json))
        if (hasQemu7) {
          const theirs = await runProgram('qemu-img', ['map', '--output=json', file], run)
          expect(map.stdout).toBe(theirs.stdout)
        }
      }
      const out = `${file.replaceAll('/', '_')}.out`
      const converted = await img(['convert', ...allow, '-O', 'raw', file, out], run)
      expect(converted.code, converted.stderr).toBe(0)
      if (fixture.content?.sha256 !== undefined)
        expect(await sha256(join(directory, out))).toBe(fixture.content.sha256)
      for (const { offset, length, sha256: expected } of fixture.ranges ?? []) {
        expect(rangeSha256(join(directory, out), offset, length)).toBe(expected)
      }
      rmSync(join(directory, out))
    },
  )

  it.concurrent.each(Object.entries(needsPlugin))('says what %s needs', async (file, named) => {
    const fixture = fixtures.find((each) => each.file === file)
    if (fixture === undefined) throw new Error(`there is no ${file}`)
    unpack(fixture, directory)
    const { code, stderr } = await img(['convert', '-O', 'raw', file, 'never.raw'], { cwd: directory })
    expect(code).toBe(1)
    expect(stderr).toContain(named)
    expect(existsSync(join(directory, 'never.raw'))).toBe(false)
  })

  const rejected = fixtures.filter(({ expect: expected }) => expected === 'reject')
  it.concurrent.each(rejected.map((fixture) => [fixture.file, fixture] as const))(
    'refuses %s',
    async (file, fixture) => {
      unpack(fixture, directory)
      const out = `${file.replaceAll('/', '_')}.out`
      const { code, stdout, stderr } = await img(['convert', '-f', fixture.format, '-O', 'raw', file, out], {
        cwd: directory,
      })
      expect(code).toBe(1)
      expect(stdout).toBe('')
      expect(stderr).toMatch(/^img: /)
      expect(stderr).not.toContain('this is a bug')
      expect(existsSync(join(directory, out))).toBe(false)
    },
  )

  const doubtful = fixtures.filter(
    ({ expect: expected }) => expected === 'damaged' || expected === 'accepted-by-qemu',
  )
  it.concurrent.each(doubtful.map((fixture) => [fixture.file, fixture] as const))(
    'reads %s as qemu-img does, or refuses it',
    async (file, fixture) => {
      unpack(fixture, directory)
      const out = `${file.replaceAll('/', '_')}.out`
      const { code, stderr } = await img(['convert', '-O', 'raw', file, out], { cwd: directory })
      const written = existsSync(join(directory, out))
      expect(stderr).not.toContain('this is a bug')
      expect([code, written]).toEqual(code === 0 ? [0, true] : [1, false])
      if (code !== 0) expect(stderr).toMatch(/^img: /)
      else if (fixture.content?.sha256 !== undefined)
        expect(await sha256(join(directory, out))).toBe(fixture.content.sha256)
      rmSync(join(directory, out), { force: true })
    },
  )
})
