// pnpm test:guest: LVM disks that img made or changed, judged by the real lvm2 in a small guest; what lvm2 then changes is read by img.
import { spawnSync } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import process from 'node:process'
import { gunzipSync } from 'node:zlib'
import { bootable, guestRun } from './guest-machine.js'
import { run, runImg, sha256 } from './tools.js'

const tool = resolve(import.meta.dirname, '../../../../shared/tools/lvm-guest')
const fixtures = resolve(import.meta.dirname, '../../../../shared/fixtures/lvm')
const reason = bootable(tool)
if (reason !== undefined) {
  console.log(`SKIPPED: ${reason}`)
  console.log('0 passed, 0 failed, 1 skipped')
  process.exit(0)
}

const dir = mkdtempSync(join(tmpdir(), 'img-guest-'))
const count = { passed: 0, failed: 0, skipped: 0 }

function check(name, body) {
  try {
    body()
    count.passed++
    console.log(`ok ${name}`)
  } catch (error) {
    count.failed++
    console.log(`FAILED ${name}\n${error.message}`)
  }
}

/** Bytes that look the same each time and compress badly. */
function pattern(name, size) {
  const bytes = Buffer.alloc(size)
  let state = createHash('sha256').update(name).digest()
  for (let at = 0; at < size; at += state.length) {
    state = createHash('sha256').update(state).digest()
    state.copy(bytes, at)
  }
  writeFileSync(join(dir, name), bytes)
}

/** A group: its disks, and the volumes whose content is compared. */
const groups = []

/** Options that open a volume, or the group. */
function opening({ disks }, volume) {
  const others = disks.slice(1).flatMap((disk) => ['--open', `pv=${disk}`])
  return [...(volume === undefined ? [] : ['--open', `lv=${volume}`]), ...others]
}

function lvm(group, action, ...args) {
  const [verb, ...flags] = action.split(' ')
  return runImg(dir, ['lvm', verb, ...flags, ...opening(group), group.disks[0], ...args])
}

function snapshot(group, flag, name, volume, ...more) {
  return runImg(dir, [
    'snapshot',
    '-f',
    'lvm',
    flag,
    name,
    ...more,
    ...opening(group, volume),
    group.disks[0],
  ])
}

/** Writes a file over the whole of a volume. */
function fill(group, volume, file) {
  const others = group.disks.slice(1).map((disk, at) => `,pv.${at}=${disk}`)
  const target = `driver=lvm,lv=${volume},file.filename=${group.disks[0]}${others.join('')}`
  runImg(dir, ['convert', '-n', '--target-image-opts', '-f', 'raw', file, target])
}

/** Writes random bytes over the whole of a volume. */
function scramble(group, volume) {
  const info = runImg(dir, ['info', '--output=json', '-f', 'lvm', ...opening(group, volume), group.disks[0]])
  writeFileSync(join(dir, 'random'), randomBytes(JSON.parse(info)['virtual-size']))
  fill(group, volume, 'random')
}

/** Leaves something in all free room of a group. */
function soil(group) {
  lvm(group, 'create', 'soil', '100%FREE')
  scramble(group, 'soil')
  lvm(group, 'remove', 'soil')
}

/** SHA-256 of a volume as img reads it. */
function sum(group, volume) {
  runImg(dir, ['convert', '-f', 'lvm', ...opening(group, volume), group.disks[0], '-O', 'raw', 'read.raw'])
  return sha256(join(dir, 'read.raw'))
}

/** Disks of the real lvm2, under a name of their own. */
function fixture(scenario, name) {
  const folder = join(fixtures, scenario)
  const manifest = JSON.parse(readFileSync(join(folder, 'manifest.json'), 'utf8'))
  const disks = manifest.disks.map(({ file }, at) => {
    writeFileSync(join(dir, `${name}${at}.raw`), gunzipSync(readFileSync(join(folder, file))))
    return `${name}${at}.raw`
  })
  const group = { name, disks, volumes: [] }
  lvm(group, 'rename', manifest.volumeGroup, name)
  groups.push(group)
  return group
}

function made(name, disks, volumes) {
  const group = { name, disks, volumes }
  groups.push(group)
  return group
}

function prepare() {
  mkdirSync(join(dir, 'tree/sub'), { recursive: true })
  writeFileSync(join(dir, 'tree/hello.txt'), 'hello\n')
  pattern('tree/sub/data.bin', 700_000)
  writeFileSync(join(dir, 'fs.raw'), '')
  run(dir, 'truncate', ['-s', '16M', 'fs.raw'])
  run(dir, 'mke2fs', ['-q', '-t', 'ext4', '-d', 'tree', 'fs.raw'])
  runImg(dir, ['convert', '-f', 'raw', '-O', 'qcow2', 'fs.raw', 'fs.qcow2'])
  for (const [name, mib] of [
    ['p1', 1],
    ['p2', 2],
    ['p8', 8],
    ['p12', 12],
    ['p20', 20],
  ])
    pattern(name, mib * 2 ** 20)

  // On a whole disk, filled, then changed in every way.
  const create = ['create', '-q', '-f', 'lvm']
  runImg(dir, [
    ...create,
    '-o',
    'vg=plain',
    '--lv',
    'root,from=fs.qcow2',
    '--lv',
    'swap=4M,tags=a,,b',
    'plain.raw',
    '64M',
  ])
  const plain = made('plain', ['plain.raw'], ['root', 'other', 'bare'])
  lvm(plain, 'create', 'gone', '4M')
  lvm(plain, 'create', 'bare', '8M', '--tag', 'x')
  lvm(plain, 'remove', 'gone')
  lvm(plain, 'rename', 'swap', 'other')
  lvm(plain, 'extend', 'root', '+4M')
  lvm(plain, 'reduce', 'bare', '4M')
  lvm(plain, 'tag', 'root', '--add', 'web', '--add', 'db')
  lvm(plain, 'tag', '--add', 'group')

  // Striped over partitions of two disks; two copies of the metadata.
  runImg(dir, [
    ...create,
    '-o',
    'vg=wide,partition=gpt,metadata_copies=2',
    '--pv',
    'wide1.raw',
    '--lv',
    'fast=12M,stripes=2,stripe_size=16k,from=p12,format=raw',
    '--lv',
    'slow=4M',
    'wide0.raw',
    '24M',
  ])
  made('wide', ['wide0.raw', 'wide1.raw'], ['fast', 'slow'])

  // Grown, with partition, physical and logical volume.
  runImg(dir, [
    ...create,
    '-o',
    'vg=grown,partition=mbr,metadata_copies=2',
    '--lv',
    'root,from=fs.qcow2',
    'grown.raw',
  ])
  runImg(dir, ['resize', '-q', '-f', 'raw', '--lv', 'grown/root', 'grown.raw', '+24M'])
  made('grown', ['grown.raw'], ['root'])

  // Snapshots of one volume, at different times; one applied, one removed, one merged.
  runImg(dir, [...create, '-o', 'vg=snap', '--lv', 'root,from=p8,format=raw', 'snap.raw', '96M'])
  const snap = made('snap', ['snap.raw'], ['root', 'first', 'third'])
  snapshot(snap, '-c', 'first', 'root')
  snapshot(snap, '-c', 'second', 'root', '--size', '12M')
  fill(snap, 'root', 'p8')
  pattern('q8', 8 * 2 ** 20)
  fill(snap, 'root', 'q8')
  snapshot(snap, '-c', 'third', 'root')
  snapshot(snap, '-a', 'first', 'root')
  snapshot(snap, '-d', 'second', 'root')

  if (!existsSync(fixtures)) {
    count.skipped++
    return
  }
  // Disks of the real lvm2, changed and written by img.
  const linear = fixture('linear', 'linear')
  lvm(linear, 'create', 'new', '8M')
  fill(linear, 'new', 'p8')
  snapshot(linear, '-c', 'shot', 'b', '--size', '4M')
  linear.volumes.push('a', 'b', 'new', 'shot')
  const thin = fixture('thin-64k', 'thin')
  fill(thin, 't2', 'p20')
  lvm(thin, 'tag', 't1', '--add', 'seen')
  // Thin snapshots: one taken, kept and applied, one of a snapshot, which is removed then.
  snapshot(thin, '-c', 'shot', 't1')
  fill(thin, 't1', 'p8')
  snapshot(thin, '-c', 'kept', 't1')
  snapshot(thin, '-a', 'shot', 't1')
  snapshot(thin, '-c', 'again', 's1')
  snapshot(thin, '-d', 's1', 't1')
  thin.volumes.push('t1', 't2', 'shot', 'kept', 'again')
  // RAID made larger into room that is not zero: what is written there, before the kernel makes it alike, must last.
  const parity = fixture('raid5', 'parity')
  soil(parity)
  lvm(parity, 'extend', 'r5', '+8M')
  lvm(parity, 'extend', 'r5small', '+8M')
  scramble(parity, 'r5')
  parity.volumes.push('r5', 'r5small')
  for (const [scenario, volume] of [
    ['raid1', 'r1'],
    ['raid10', 'r10'],
    ['raid6', 'r6'],
  ]) {
    const group = fixture(scenario, scenario)
    soil(group)
    lvm(group, 'extend', volume, '+8M')
    scramble(group, volume)
    group.volumes.push(volume)
  }
  const mirror = fixture('mirror', 'mirrored')
  soil(mirror)
  lvm(mirror, 'extend', 'mdisk', '+8M')
  fill(mirror, 'mcore', 'p12')
  scramble(mirror, 'mdisk')
  mirror.volumes.push('mcore', 'mdisk')
  const shots = fixture('snapshot-4k', 'shots')
  snapshot(shots, '-d', 'snap2', 'origin')
  snapshot(shots, '-c', 'latest', 'origin', '--size', '20M')
  snapshot(shots, '-a', 'snap1', 'origin')
  shots.volumes.push('origin', 'snap1', 'latest')
}

/** What is done in the guest: everything is checked and hashed, then lvm2 changes some of it. */
function script() {
  const lines = ['bad=0', 'fail() { echo "BAD $*"; bad=1; }', 'vgs; pvs; lvs -a -o+devices']
  lines.push('for pv in $(pvs --noheadings -o pv_name); do pvck $pv || fail pvck $pv; done')
  for (const { name, volumes } of groups) {
    lines.push(`vgck ${name} || fail vgck ${name}`, `vgchange -ay -K ${name} || fail vgchange ${name}`)
    for (const volume of volumes) {
      lines.push(
        `sha256sum </dev/${name}/${volume} | sed "s|-|${name}/${volume}|" >>$HD/sums.txt || fail read ${name}/${volume}`,
      )
    }
  }
  // Parity is what the data says, also where img wrote it.
  lines.push(
    'idle() { for i in $(seq 300); do dmsetup status | grep " raid " | grep -qv " idle " || return 0; sleep 0.2; done; }',
    'idle; for v in parity/r5 parity/r5small raid1/r1 raid10/r10 raid6/r6; do lvchange --syncaction check $v || fail scrub $v; done; idle',
    'for n in $(lvs --noheadings -o raid_mismatch_count parity raid1 raid10 raid6); do [ $n = 0 ] || fail $n mismatches; done',
    'lvs -a -o+raid_sync_action,raid_mismatch_count,copy_percent parity raid1 raid10 raid6 mirrored',
    'lvs --noheadings -o raid_mismatch_count parity | grep -q 0 || fail no scrub',
  )
  for (const volume of ['plain/root', 'grown/root']) {
    lines.push(
      `e2fsck -fn /dev/${volume} || fail e2fsck ${volume}`,
      `mount -t ext4 /dev/${volume} /mnt && sha256sum </mnt/sub/data.bin >>$HD/files.txt && umount /mnt || fail mount ${volume}`,
    )
  }
  lines.push(
    'lvs --noheadings -o lv_tags plain/root | tr -d " " >$HD/tags.txt',
    // What lvm2 and the kernel then write.
    'e2fsck -fy /dev/grown/root; resize2fs /dev/grown/root || fail resize2fs',
    'lvcreate -y -Wn -Zn -n later -L 4M plain || fail lvcreate',
    'pat k 5 0 4194304 /dev/plain/later',
    'lvextend -L +4M plain/root || fail lvextend',
    'pat s 6 1048576 300000 /dev/snap/root; pat s 7 4096 8192 /dev/snap/first',
    'lvcreate -y -s -n fourth -L 8M snap/root || fail snapshot',
    'pat k 8 0 65536 /dev/snap/root; sync',
    'lvremove -y snap/third || fail lvremove',
    ...thinLines(),
    'for v in plain/root plain/later snap/root snap/first snap/fourth grown/root; do sha256sum </dev/$v | sed "s|-|$v|" >>$HD/after.txt; done',
    'for g in $(vgs --noheadings -o vg_name); do vgck $g || fail vgck $g; vgchange -an $g || fail deactivate $g; done',
    'sync; exit $bad',
  )
  return `${lines.join('\n')}\n`
}

/** What lvm2 does to a thin pool whose snapshots img made. */
function thinLines() {
  if (!groups.some(({ name }) => name === 'thin')) return []
  return [
    'lvcreate -y -s -kn -n late thin/shot || fail thin snapshot',
    'pat k 9 0 200000 /dev/thin/t1; pat s 10 3000000 70000 /dev/thin/late; sync',
    'lvremove -y thin/kept || fail thin lvremove',
    'for v in thin/t1 thin/shot thin/again thin/late; do sha256sum </dev/$v | sed "s|-|$v|" >>$HD/after.txt; done',
  ]
}

/** `HASH  NAME` a line. */
function sums(file) {
  const lines = readFileSync(join(dir, 'out', file), 'utf8')
    .trim()
    .split('\n')
  return new Map(lines.map((line) => line.split(/\s+/).reverse()))
}

try {
  prepare()
  const before = new Map()
  for (const group of groups) {
    for (const volume of group.volumes) before.set(`${group.name}/${volume}`, sum(group, volume))
  }
  writeFileSync(join(dir, 'script.sh'), script())
  const disks = groups.flatMap((group) => group.disks)
  const { status, log } = guestRun({ tool, dir, script: 'script.sh', disks, out: 'out' })
  check('pvck, vgck, activation, fsck, mount and changes by lvm2', () => {
    if (status !== 0) throw new Error(log)
  })
  if (existsSync(join(dir, 'out/sums.txt'))) {
    const found = sums('sums.txt')
    for (const [name, expected] of before) {
      check(`${name} has in the guest what img reads`, () => {
        if (found.get(name) !== expected) throw new Error(`${found.get(name)}, not ${expected}\n${log}`)
      })
    }
    check('files and tags are as they were made', () => {
      const files = readFileSync(join(dir, 'out/files.txt'), 'utf8').trim().split('\n')
      const expected = sha256(join(dir, 'tree/sub/data.bin'))
      if (files.length !== 2 || !files.every((line) => line.startsWith(expected)))
        throw new Error(files.join('\n'))
      const tags = readFileSync(join(dir, 'out/tags.txt'), 'utf8').trim()
      if (tags.split(',').sort().join() !== 'db,web') throw new Error(`tags ${tags}`)
    })
    for (const [name, expected] of sums('after.txt')) {
      check(`${name}, changed by lvm2, is read by img`, () => {
        const [group, volume] = name.split('/')
        const actual = sum(
          groups.find((each) => each.name === group),
          `${group}/${volume}`,
        )
        if (actual !== expected) throw new Error(`${actual}, not ${expected}`)
      })
    }
  }
  const pool = groups.find(({ name }) => name === 'thin')
  if (pool !== undefined) {
    check('a thin pool that lvm2 changed can be changed by img again', () => {
      snapshot(pool, '-d', 'late', 'shot')
      snapshot(pool, '-c', 'last', 'again')
      if (sum(pool, 'thin/last') !== sum(pool, 'thin/again')) throw new Error('the snapshot differs')
      runImg(dir, ['check', '-f', 'lvm', ...opening(pool), pool.disks[0]])
    })
  }
  check('a disk that lvm2 changed can be changed by img again', () => {
    const plain = groups[0]
    lvm(plain, 'remove', 'later')
    lvm(plain, 'create', 'again', '4M')
    const text = spawnSync('pvck', ['--dump', 'metadata', 'plain.raw'], { cwd: dir, encoding: 'utf8' })
    if (text.error === undefined && !text.stdout.includes('again {'))
      throw new Error(text.stdout + text.stderr)
  })
} catch (error) {
  count.failed++
  console.log(`FAILED to prepare\n${error.stack}`)
} finally {
  rmSync(dir, { recursive: true, force: true })
}
console.log(`${count.passed} passed, ${count.failed} failed, ${count.skipped} skipped`)
process.exitCode = count.failed === 0 ? 0 : 1
