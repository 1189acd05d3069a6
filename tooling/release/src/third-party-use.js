import { spawnSync } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import process from 'node:process'
import { assert, run } from './run.js'
import { sha256, writeSampleDisk } from './sample.js'

/** @param {string} command */
const have = (command) => spawnSync(command, ['--version'], { stdio: 'ignore' }).error === undefined

/**
 * The command with the plugin installed beside it: finds it, converts there and back, makes overlays, grows.
 * @param {string} dir project that declares the plugin
 * @param {string} executable `img` as installed there
 */
export async function useTheFormat(dir, executable) {
  const img = (/** @type {string[]} */ ...args) => run(process.execPath, [executable, ...args], { cwd: dir })
  const info = async (/** @type {string[]} */ ...args) =>
    JSON.parse((await img('info', '--output=json', ...args)).stdout)
  writeSampleDisk(join(dir, 'disk.raw'))
  const { stdout: formats } = await img('formats')
  assert(/\bvpc\b/.test(formats), `img formats does not know vpc:\n${formats}`)

  for (const options of [
    'subformat=dynamic',
    'subformat=fixed',
    'force_size=on',
    'subformat=fixed,force_size=on',
  ]) {
    await img('convert', '-f', 'raw', '-O', 'vpc', '-o', options, 'disk.raw', 'a.vhd')
    await img('compare', '-f', 'raw', 'disk.raw', 'a.vhd')
    const { format, 'virtual-size': size } = await info('a.vhd')
    assert(format === 'vpc' && size >= (4 << 20) + 1536, `img info says ${format}, ${size} bytes`)
    await img('convert', '-O', 'qcow2', 'a.vhd', 'b.qcow2')
    await img('convert', '-O', 'vpc', '-o', options, 'b.qcow2', 'c.vhd')
    await img('compare', '-s', 'a.vhd', 'c.vhd')
    assert((await info('c.vhd'))['virtual-size'] === size, 'VHD to qcow2 and back changed the size')
    await judge(dir, size)
  }
  process.stdout.write('raw to VHD to qcow2 to VHD, dynamic and fixed: ok\n')

  await overlays(img, dir)
  await fromElsewhere(dir, executable)
  process.stdout.write('overlays, resize, --plugin: ok\n')
}

/**
 * What other tools say of a.vhd, b.qcow2 and c.vhd, which are one disk.
 * @param {string} dir
 * @param {number} size virtual size in bytes
 */
async function judge(dir, size) {
  if (have('qemu-img')) {
    const qemuImg = async (/** @type {string[]} */ ...args) =>
      (await run('qemu-img', args, { cwd: dir })).stdout
    for (const name of ['a.vhd', 'c.vhd']) {
      const told = JSON.parse(await qemuImg('info', '--output=json', '-f', 'vpc', name))
      assert(
        told['virtual-size'] === size,
        `qemu-img says ${name} has ${told['virtual-size']} bytes, not ${size}`,
      )
    }
    for (const args of [
      ['-f', 'vpc', '-F', 'vpc', 'a.vhd', 'c.vhd'],
      ['-f', 'vpc', '-F', 'qcow2', 'a.vhd', 'b.qcow2'],
      ['-f', 'raw', '-F', 'vpc', 'disk.raw', 'c.vhd'],
    ]) {
      assert(/identical/.test(await qemuImg('compare', ...args)), `qemu-img compare ${args.join(' ')}`)
    }
    await qemuImg('check', '-q', '-f', 'qcow2', 'b.qcow2')
  } else process.stdout.write('qemu-img is missing: not compared with it\n')
  if (have('vhdiinfo')) {
    for (const name of ['a.vhd', 'c.vhd']) {
      const { stdout } = await run('vhdiinfo', [name], { cwd: dir })
      assert(stdout.includes(`(${size} bytes)`), `vhdiinfo ${name} says\n${stdout}`)
    }
  } else process.stdout.write('vhdiinfo is missing: not asked\n')
}

/**
 * A differencing VHD, and a qcow2 over a VHD.
 * @param {(...args: string[]) => Promise<{ stdout: string }>} img
 * @param {string} dir
 */
async function overlays(img, dir) {
  const before = sha256(join(dir, 'a.vhd'))
  await img('create', '-f', 'vpc', '-b', 'a.vhd', '-F', 'vpc', 'child.vhd')
  await img('create', '-f', 'qcow2', '-b', 'child.vhd', '-F', 'vpc', 'top.qcow2')
  for (const name of ['child.vhd', 'top.qcow2']) await img('compare', 'a.vhd', name)
  assert(sha256(join(dir, 'a.vhd')) === before, 'an overlay changed its parent')
  if (have('vhdiinfo')) {
    const { stdout } = await run('vhdiinfo', ['child.vhd'], { cwd: dir })
    assert(/Differential/.test(stdout) && /a\.vhd/.test(stdout), `vhdiinfo child.vhd says\n${stdout}`)
  }
  await img('resize', '-f', 'vpc', 'c.vhd', '1G')
  const { stdout } = await img('info', '--output=json', 'c.vhd')
  assert(JSON.parse(stdout)['virtual-size'] === 1024 ** 3, `after resize img info says ${stdout}`)
  await img('compare', 'a.vhd', 'c.vhd')
}

/**
 * In a folder whose project does not declare the plugin it is loaded where it is named.
 * @param {string} dir
 * @param {string} executable
 */
async function fromElsewhere(dir, executable) {
  const elsewhere = join(dir, 'elsewhere')
  mkdirSync(elsewhere)
  const plugin = join(dir, 'node_modules', 'img-format-vhd')
  const args = [executable, '--plugin', plugin, 'info', '--output=json', join(dir, 'a.vhd')]
  const { stdout } = await run(process.execPath, args, { cwd: elsewhere })
  assert(JSON.parse(stdout).format === 'vpc', `with --plugin img info says ${stdout}`)
}
