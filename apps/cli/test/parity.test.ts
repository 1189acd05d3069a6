import { cpSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { formats } from './parity/lines.js'
import { comparable, parityRuns } from './parity/run.js'
import { type Batch, startBatch } from './support/batch.js'
import { type Outcome, runProgram, temporaryDirectory } from './support/cli.js'
import { hasQemu7 } from './support/qemu.js'

describe.skipIf(!hasQemu7)('every flag of qemu-img (skipped without qemu-img 7.2)', () => {
  const root = temporaryDirectory()
  const [master, theirs, ours] = ['master', 'theirs', 'ours'].map((name) => join(root, name)) as [
    string,
    string,
    string,
  ]
  let batch: Batch

  async function qemu(args: readonly string[], cwd: string): Promise<Outcome> {
    return runProgram('qemu-img', args, { cwd })
  }

  async function make(line: string): Promise<void> {
    const [program = '', ...args] = line.split(' ')
    const { code, stderr } = await runProgram(program, args, { cwd: master })
    if (code !== 0) throw new Error(`${line}: ${stderr}`)
  }

  beforeAll(async () => {
    mkdirSync(master)
    const disk = Buffer.alloc(1048576)
    disk.fill('parity', 0, 100_000)
    disk.fill('of img', 300_000, 301_000)
    disk.fill('and qemu-img', 900_000)
    writeFileSync(join(master, 'a.raw'), disk)
    disk.fill(0x55, 65536, 65600)
    writeFileSync(join(master, 'b.raw'), disk)
    for (const format of formats.filter((each) => each !== 'raw')) {
      for (const name of ['a', 'b'])
        await make(`qemu-img convert -f raw -O ${format} ${name}.raw ${name}.${format}`)
    }
    await make('qemu-img create -q -f qcow2 snap.qcow2 1M')
    for (const [name, byte] of Object.entries({ one: 1, two: 2 })) {
      await runProgram('qemu-io', ['-c', `write -P ${byte} 0 64k`, 'snap.qcow2'], { cwd: master })
      await make(`qemu-img snapshot -c ${name} snap.qcow2`)
    }
    for (const name of ['marked', 'target', 'amended'])
      await make(`qemu-img create -q -f qcow2 ${name}.qcow2 1M`)
    await make('qemu-img bitmap --add marked.qcow2 first')
    cpSync(master, theirs, { recursive: true })
    cpSync(master, ours, { recursive: true })
    batch = startBatch(ours)
  })
  afterAll(() => batch?.end())

  it.each(parityRuns().map((run) => [run.line, run] as const))('%s', async (_, { words, difference }) => {
    const [expected, outcome] = await Promise.all([qemu(words, theirs), batch.img(words)])
    if (difference !== undefined) expect(comparable(outcome), difference).not.toEqual(comparable(expected))
    else expect(comparable(outcome)).toEqual(comparable(expected))
  })

  it('leaves the same content in every image', async () => {
    const names = readdirSync(ours)
    expect(names).toEqual(readdirSync(theirs).filter((name) => !name.startsWith('bad.')))
    // That one names a file that is not there.
    for (const name of names.filter((each) => each !== 'unsafe.qcow2')) {
      // One that only img can make larger ends in zeros.
      const { code } = await qemu(['compare', '-q', join('theirs', name), join('ours', name)], root)
      expect([name, code]).toEqual([name, 0])
    }
  })
})
