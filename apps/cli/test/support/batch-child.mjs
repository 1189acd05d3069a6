// Runs many command lines in one process: arguments as a JSON list a line on stdin, outcomes as a JSON object a line on stdout.
import fs from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { createInterface } from 'node:readline'
import { pathToFileURL } from 'node:url'

const [, , mainFile] = process.argv
const { writeSync } = fs
const told = { 1: '', 2: '' }
fs.writeSync = (fd, bytes, ...rest) => {
  if (fd !== 1 && fd !== 2) return writeSync(fd, bytes, ...rest)
  const from = rest[0] ?? 0
  told[fd] += Buffer.from(bytes.buffer, bytes.byteOffset + from, bytes.length - from).toString()
  return bytes.length - from
}
syncBuiltinESMExports()
// Each run listens for signals.
process.setMaxListeners(0)
const { main } = await import(pathToFileURL(mainFile).href)

for await (const line of createInterface({ input: process.stdin })) {
  told[1] = ''
  told[2] = ''
  process.exitCode = 0
  await main(JSON.parse(line))
  const outcome = { code: process.exitCode, stdout: told[1], stderr: told[2] }
  const bytes = Buffer.from(`${JSON.stringify(outcome)}\n`)
  for (let done = 0; done < bytes.length; ) done += writeSync(1, bytes, done)
}
process.exitCode = 0
