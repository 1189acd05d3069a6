import { mkdtempSync, openSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { secretSource } from '../src/secrets/source.js'

const cwd = mkdtempSync(join(tmpdir(), 'img-cli-'))
const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes)
const file = (name: string, content: string): string => {
  const path = join(cwd, name)
  writeFileSync(path, content)
  return path
}
const warnings: string[] = []
const source = (options: Record<string, unknown>) =>
  secretSource(options, (message) => warnings.push(message))

afterEach(() => {
  warnings.length = 0
  delete process.env.IMG_PASSPHRASE
})

describe('--object secret', () => {
  it('gives the bytes of a file, all of them', async () => {
    const secret = source({ object: [`secret,id=a,file=${file('a', 'pass\n')}`] })
    expect(text(await secret('a'))).toBe('pass\n')
    expect(text(await secret(undefined))).toBe('pass\n')
    expect(warnings).toEqual([])
  })

  it('gives data=, and warns of it', async () => {
    const secret = source({ object: ['secret,id=a,data=x,,y', 'qom-type=secret,id=b,data=z'] })
    expect(text(await secret('a'))).toBe('x,y')
    expect(text(await secret('b'))).toBe('z')
    expect(warnings).toHaveLength(2)
    // Of two it cannot be told which one is meant.
    await expect(Promise.resolve().then(() => secret(undefined))).rejects.toMatchObject({
      code: 'IMG_SECRET_MISSING',
    })
  })

  it('decodes base64, and understands JSON', async () => {
    const secret = source({
      object: ['secret,id=a,data=cGFzcw==,format=base64', '{"qom-type":"secret","id":"b","data":"q"}'],
    })
    expect(text(await secret('a'))).toBe('pass')
    expect(text(await secret('b'))).toBe('q')
    expect(() => source({ object: ['secret,id=a,data=!!,format=base64'] })).toThrow('base64')
  })

  it('does not know other ids', () => {
    expect(() => source({})('s')).toThrow("No secret with id 's'")
  })

  it.each([
    ['secret', "Parameter 'id' is missing"],
    ['tls-creds,id=a', "Parameter 'qom-type' does not accept value 'tls-creds'"],
    ['secret,id=a,data=b,iv=c', 'not supported'],
    ['secret,id=a,data=b,foo=c', "Parameter 'foo' is unexpected"],
  ])('refuses %s', (definition, message) => {
    expect(() => source({ object: [definition] })).toThrow(message)
  })

  it('refuses the same id twice', () => {
    expect(() => source({ object: ['secret,id=a,data=b', 'secret,id=a,data=b'] })).toThrow('duplicate')
  })
})

describe('a passphrase', () => {
  it.each([
    ['pass', 'pass'],
    ['pass\n', 'pass'],
    ['pass\r\nmore', 'pass'],
    [' pass \n', ' pass '],
  ])('is the first line of a file: %j', async (content, expected) => {
    const secret = source({ passphraseFile: file('p', content) })
    expect(text(await secret(undefined))).toBe(expected)
  })

  it('comes from a file descriptor, once', async () => {
    const fd = openSync(file('fd', 'through fd\n'), 'r')
    const secret = source({ passphraseFd: String(fd) })
    expect(text(await secret(undefined))).toBe('through fd')
    expect(text(await secret(undefined))).toBe('through fd')
    await expect(Promise.resolve(source({ passphraseFd: 'x' })(undefined))).rejects.toThrow('descriptor')
  })

  it('comes from the environment', async () => {
    process.env.IMG_PASSPHRASE = 'from outside'
    expect(text(await source({})(undefined))).toBe('from outside')
  })

  it('is missed where there is none, and no terminal', async () => {
    await expect(Promise.resolve(source({})(undefined))).rejects.toMatchObject({
      code: 'IMG_SECRET_MISSING',
      message: "Parameter 'encrypt.key-secret' is required for cipher",
    })
  })

  it('cannot come from two places', () => {
    expect(() => source({ passphraseFile: 'a', passphraseFd: '3' })).toThrow('mutually exclusive')
  })

  it('tells of a file that cannot be read', async () => {
    await expect(Promise.resolve(source({ passphraseFile: join(cwd, 'none') })(undefined))).rejects.toThrow(
      'No such file or directory',
    )
  })
})
