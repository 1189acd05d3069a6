import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { must, run } from './tools.js'

/**
 * Compares the image with its model: as it reads here, as QEMU reads it, and by the checks of both.
 * @param {import('./subject.js').Subject} subject
 * @param {number} round snapshots are read by QEMU in every third
 */
export async function judge(subject, round) {
  const disk = await subject.open()
  same(await read(disk), subject.content, 'the disk')
  const names = (await disk.snapshots?.list())?.map(({ name }) => name) ?? []
  if (names.join() !== [...subject.snapshots.keys()].join()) throw new Error(`snapshots are ${names.join()}`)
  for (const [name, expected] of subject.snapshots) {
    const snapshot = await disk.snapshots?.open(name)
    same(await read(snapshot), expected, `snapshot ${name}`)
    await snapshot.close()
  }
  const bitmaps = (await disk.bitmaps?.list())?.map(({ name }) => name) ?? []
  if (bitmaps.join() !== [...subject.bitmaps.keys()].join()) throw new Error(`bitmaps are ${bitmaps.join()}`)
  for (const [name, model] of subject.bitmaps) model.judge(await subject.dirty(name), subject.content, name)
  await disk.flush?.()
  if (disk.check) {
    const messages = []
    const result = await disk.check({ onFinding: ({ message }) => messages.push(message) })
    if (result.corruptions + result.leaks + result.checkErrors > 0) {
      throw new Error(`our check: ${JSON.stringify(result)}\n${messages.join('\n')}`)
    }
  }
  judgeByQemu(subject, round)
}

/** @param {import('./subject.js').Subject} subject @param {number} round */
function judgeByQemu(subject, round) {
  const check = run('qemu-img', ['check', ...subject.qemuArgs('-U')])
  if (check.status !== 0) throw new Error(`qemu-img check: ${check.status}\n${check.stdout}${check.stderr}`)
  if (subject.case.data === 'raw') {
    const file = new Uint8Array(readFileSync(join(subject.dir, 'data.raw')))
    // qemu-img makes it somewhat larger than the disk.
    same(file.subarray(0, subject.size), subject.content, 'the raw data file')
    if (file.subarray(subject.size).some((byte) => byte !== 0)) throw new Error('the raw data file goes on')
  }
  const model = join(subject.dir, 'model.raw')
  writeFileSync(model, subject.content)
  const plain = `driver=raw,file.driver=file,file.filename=${model}`
  must('qemu-img', ['compare', '-U', ...subject.secretArgs, '--image-opts', plain, subject.imageOpts])
  const names = [...subject.snapshots.keys()]
  if (names.length === 0 || round % 3 !== 0) return
  const name = names[round % names.length]
  const copy = join(subject.dir, 'snapshot.raw')
  const chosen = ['-l', `snapshot.name=${name}`, '-O', 'raw']
  must('qemu-img', ['convert', '-U', ...subject.qemuArgs(...chosen), copy])
  // QEMU takes a snapshot for as large as the disk is now.
  const expected = subject.snapshots.get(name).subarray(0, subject.size)
  const found = new Uint8Array(readFileSync(copy)).subarray(0, expected.length)
  same(found, expected, `snapshot ${name}, read by QEMU,`)
}

/** @param {import('@img/core').BlockDevice} disk */
async function read(disk) {
  const bytes = new Uint8Array(disk.size)
  await disk.read(0, bytes)
  return bytes
}

/** @param {Uint8Array} found @param {Uint8Array} expected @param {string} what */
export function same(found, expected, what) {
  if (Buffer.compare(found, expected) === 0) return
  const at = found.findIndex((byte, i) => byte !== expected[i])
  let to = at
  while (to < found.length && found[to] !== expected[to]) to++
  throw new Error(
    `${what} differs from the model in [${at}, ${to}): ${found[at]} for ${expected[at]}; sizes ${found.length} and ${expected.length}`,
  )
}
