import { spawnSync } from 'node:child_process'

/**
 * Runs a tool of QEMU.
 * @param {string} tool
 * @param {readonly string[]} args
 */
export function run(tool, args) {
  const { status, signal, stdout, stderr, error } = spawnSync(tool, args, {
    encoding: 'utf8',
    maxBuffer: 2 ** 28,
    timeout: 120_000,
  })
  return { status, stdout: stdout ?? '', stderr: `${stderr ?? ''}${error ?? ''}${signal ?? ''}` }
}

/**
 * Runs a tool that has to succeed.
 * @param {string} tool
 * @param {readonly string[]} args
 * @returns {string} what it printed
 */
export function must(tool, args) {
  const { status, stdout, stderr } = run(tool, args)
  // qemu-io tells of failed commands, and ends well.
  if (status !== 0 || (tool === 'qemu-io' && /failed|error|invalid/i.test(stdout))) {
    throw new Error(`${tool} ${args.join(' ')}: exit code ${status}\n${stdout}${stderr}`)
  }
  return stdout
}

/** True where the tools of QEMU are installed. */
export function hasQemu() {
  return run('qemu-img', ['--version']).status === 0 && run('qemu-io', ['--version']).status === 0
}
