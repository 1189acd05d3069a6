import { copyFileSync, cpSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { img, type Outcome, runProgram, temporaryDirectory, withoutExtras } from './support/cli.js'
import { hasQemu7 } from './support/qemu.js'

/** Where a line ends otherwise than qemu-img's, and why. Whatever stands here must really differ. */
const differences: Readonly<Record<string, string>> = {
  'snapshot -a x a.raw': 'qemu-img opens the image twice, and warns twice',
  'snapshot -f qcow2 -l a.qcow2': 'the format can be named, as for other verbs',
  'snapshot -d 2 s.qcow2': 'a snapshot is also deleted by its id',
  'bench -d 0 -c 1 a.qcow2': 'qemu-img never ends',
}

/** Command lines, in order: each is run by qemu-img in one directory and by img in its twin. */
const lines = `
snapshot
snapshot a.qcow2
snapshot -l -c x a.qcow2
snapshot -l nosuch
snapshot -f qcow2 -l a.qcow2
snapshot -c
snapshot -a x a.raw
snapshot -d x a.raw
snapshot -d 2 s.qcow2
snapshot -a nosuch s.qcow2
snapshot --object secret,id=a -l a.qcow2
check
check --output=x a.qcow2
check -T foo a.qcow2
check -f nosuch a.qcow2
check a.qcow2 b
check --output=json top.qcow2
check -r foo a.raw
check -r all a.raw
rebase
rebase top.qcow2
rebase -u -b base.qcow2 -F nosuch top.qcow2
rebase -t foo -b x top.qcow2
rebase -T foo -b x top.qcow2
rebase -u -b base.qcow2 -F qcow2 a.raw
rebase -b base.qcow2 top.qcow2
rebase -b nosuch.qcow2 -F raw top.qcow2
rebase -b nosuch.qcow2 top.qcow2
rebase -b other.qcow2 -F qcow2 top.qcow2
rebase -u -b base.qcow2 -F qcow2 copy.qcow2
commit
commit -t foo top.qcow2
commit -b nosuch top.qcow2
commit -r x top.qcow2
commit a.raw
commit -q -d copy.qcow2
commit -b base.qcow2 far.qcow2
amend
amend top.qcow2
amend -o compat=1.1
amend -o help
amend -f qcow2 -o help
amend -o help top.qcow2
amend -f raw -o help
amend -f nosuch -o help
amend -o nosuch=1 top.qcow2
amend -o compat=9 top.qcow2
amend -t foo -o compat=0.10 a.qcow2
amend -o , a.qcow2
amend -o size=foo a.qcow2
amend -o cluster_size=4k a.qcow2
amend -o compat=0.10 a.raw
amend -o compat=0.10 a.qcow2
amend -o compat=1.1,lazy_refcounts=on a.qcow2
bitmap
bitmap a.qcow2 b
bitmap --add a.qcow2
bitmap --add -g x a.qcow2 b
bitmap --add -g 4G a.qcow2 b
bitmap --remove -g 64k a.qcow2 b
bitmap --add -F qcow2 a.qcow2 b
bitmap --add -b base.qcow2 a.qcow2 b
bitmap --merge x -b base.qcow2 a.qcow2 b
bitmap --remove -f raw a.raw b
map --object secret,id=s,data=x --object secret,id=s,data=x a.qcow2
dd
dd if=a.qcow2
dd foo
dd foo=1 if=a.qcow2 of=x
dd if=a.qcow2 of=x bs=0
dd if=a.qcow2 of=x bs=3G
dd if=a.qcow2 of=x count=x
dd if=a.qcow2 of=skipped skip=50000
dd if=top.qcow2 of=whole bs=64k
dd if=top.qcow2 of=part bs=1000 count=201
dd if=top.qcow2 of=rest bs=64k skip=1
dd -f raw if=small of=rounded
dd -O nosuch if=a.qcow2 of=x
dd if=nosuch of=x
dd if=a.qcow2 of=nodir/x
dd -p if=a.qcow2 of=x
bench
bench a b
bench -c x a.qcow2
bench -d x a.qcow2
bench -s x a.qcow2
bench -S x a.qcow2
bench -o x a.qcow2
bench -w --pattern=300 a.qcow2
bench -i x a.qcow2
bench -t x a.qcow2
bench --flush-interval=2 a.qcow2
bench -w --flush-interval=2 a.qcow2
bench -c 3 -o 5M a.qcow2
bench -c 5 -d 2 -s 8k a.qcow2
bench -w -c 5 -d 2 --flush-interval=2 -f raw a.raw
bench -d 0 -c 1 a.qcow2
convert -n -c -O qcow2 top.qcow2 target.qcow2
convert -n -c -O raw top.qcow2 a.raw
convert -n --target-image-opts top.qcow2 driver=qcow2,file.filename=target.qcow2
convert -n --target-image-opts -O raw a.qcow2 driver=raw,file.filename=a.raw
convert --salvage -W -m 4 -O raw top.qcow2 salvaged
convert --bitmaps -O raw a.qcow2 x.raw
convert --bitmaps -f raw -O qcow2 a.raw x.qcow2
info --image-opts driver=qcow2,file.filename=a.qcow2,foo=bar
info --image-opts driver=qcow2,file.filename=a.qcow2,file.foo=bar
info --image-opts driver=qcow2,file.filename=nosuch
info --image-opts driver=qcow2,file=a.qcow2
info --image-opts filename=a.qcow2
info --image-opts a.qcow2
info json:{"driver":"qcow2","file":{"driver":"foo","filename":"a.qcow2"}}
info json:[1]
map --image-opts driver=qcow2,file.filename=far.qcow2,backing.driver=qcow2,backing.file.filename=base.qcow2
map --object foo,id=x a.qcow2
map --object secret,data=x a.qcow2
map --object secret,id=s,data=x,file=y a.qcow2
map --object secret,id=s,file=nosuch a.qcow2
map --object secret,id=s,data=x,format=foo a.qcow2
`
  .trim()
  .split('\n')

function normal(text: string): string {
  return text
    .replaceAll(/^qemu-img: /gm, 'img: ')
    .replaceAll("Try 'qemu-img --help'", "Try 'img --help'")
    .replaceAll(/Run completed in [\d.]+ seconds/g, 'Run completed in N seconds')
    .replaceAll(/^img: warning: the secret .*\n/gm, '')
}

function shown({ code, stdout, stderr }: Outcome): Outcome {
  return { code, stdout: normal(stdout), stderr: normal(withoutExtras(stderr)) }
}

describe.skipIf(!hasQemu7)('the same command lines as qemu-img (skipped without qemu-img 7.2)', () => {
  const root = temporaryDirectory()
  const theirs = join(root, 'theirs')
  const ours = join(root, 'ours')

  beforeAll(async () => {
    mkdirSync(theirs)
    const run = async (program: string, ...args: string[]): Promise<void> => {
      const { code, stderr } = await runProgram(program, args, { cwd: theirs })
      if (code !== 0) throw new Error(`${program} ${args.join(' ')}: ${stderr}`)
    }
    const make = (name: string, ...args: string[]): Promise<void> =>
      run('qemu-img', 'create', '-q', '-f', 'qcow2', ...args, name, '1M')
    const write = (name: string, ...commands: string[]): Promise<void> =>
      run('qemu-io', '-f', 'qcow2', ...commands.flatMap((each) => ['-c', `write -P ${each}`]), name)
    for (const name of ['a.qcow2', 'base.qcow2', 'other.qcow2', 's.qcow2', 'target.qcow2']) await make(name)
    await write('base.qcow2', '17 0 256k')
    await write('other.qcow2', '17 0 64k', '18 128k 256k')
    for (const name of ['top.qcow2', 'copy.qcow2', 'mid.qcow2']) {
      await make(name, '-b', 'base.qcow2', '-F', 'qcow2')
      await write(name, '19 64k 64k')
    }
    await make('far.qcow2', '-b', 'mid.qcow2', '-F', 'qcow2')
    await write('far.qcow2', '20 512k 64k')
    for (const name of ['one', 'two']) await run('qemu-img', 'snapshot', '-c', name, 's.qcow2')
    await run('qemu-img', 'create', '-q', 'a.raw', '1M')
    writeFileSync(join(theirs, 'small'), 'hello')
    mkdirSync(ours)
    cpSync(theirs, ours, { recursive: true })
  })

  it.each(lines)('%s', async (line) => {
    const args = line.split(' ')
    const difference = differences[line]
    const outcome = await img(args, { cwd: ours })
    if (line.includes('-d 0')) return expect(outcome.code).toBe(1)
    const expected = shown(await runProgram('qemu-img', args, { cwd: theirs }))
    if (difference !== undefined) expect(shown(outcome), difference).not.toEqual(expected)
    else expect(shown(outcome)).toEqual(expected)
  })

  it('leaves the same content in every image, and images in which qemu-img finds nothing wrong', async () => {
    // What qemu-img could not finish it leaves behind, half made.
    const names = readdirSync(theirs).filter((name) => !name.startsWith('x'))
    expect(readdirSync(ours)).toEqual(names)
    for (const name of names) {
      if (name.endsWith('.qcow2')) {
        // Both name the same files, so that each is looked at in its own directory.
        const raw = (cwd: string): Promise<Outcome> =>
          runProgram('qemu-img', ['convert', '-f', 'qcow2', '-O', 'raw', name, `${name}.content`], { cwd })
        expect((await raw(theirs)).code).toBe(0)
        expect((await raw(ours)).code).toBe(0)
        const content = (cwd: string): Buffer => readFileSync(join(cwd, `${name}.content`))
        expect(content(ours).equals(content(theirs)), name).toBe(true)
        expect((await runProgram('qemu-img', ['check', '-q', name], { cwd: ours })).code).toBe(0)
      } else {
        expect(readFileSync(join(ours, name)).equals(readFileSync(join(theirs, name))), name).toBe(true)
      }
    }
  })

  it('counts the blocks of dd from where it skipped to; qemu-img counts them from the start', async () => {
    const args = ['dd', 'if=top.qcow2', 'of=counted', 'bs=64k', 'skip=1', 'count=2']
    copyFileSync(join(ours, 'whole'), join(root, 'whole'))
    expect((await img(args, { cwd: ours })).code).toBe(0)
    const whole = readFileSync(join(root, 'whole'))
    expect(readFileSync(join(ours, 'counted')).equals(whole.subarray(65536, 3 * 65536))).toBe(true)
    await runProgram('qemu-img', args, { cwd: theirs })
    expect(readFileSync(join(theirs, 'counted')).length).toBe(65536)
  })
})
