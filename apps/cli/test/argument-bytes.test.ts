import { readdirSync } from 'node:fs'
import { expect, it } from 'vitest'
import { imgFile, mustImg, runProgram, temporaryDirectory } from './support/cli.js'

// Elsewhere the bytes of arguments cannot be seen.
it.skipIf(process.platform !== 'linux')(
  'a name that is not UTF-8 is refused, and no other made',
  async () => {
    const cwd = temporaryDirectory()
    const command = 'exec "$0" "$1" create -q -f raw "$(printf \'a\\377\')" 1M'
    const { code, stderr } = await runProgram('sh', ['-c', command, process.execPath, imgFile], { cwd })
    expect([code, stderr]).toEqual([
      1,
      expect.stringMatching(/^img: the argument 'a\ufffd' is not UTF-8\nimg: hint: /),
    ])
    expect(readdirSync(cwd)).toEqual([])
    await mustImg(['create', '-q', '-f', 'raw', 'a\ufffd', '1M'], { cwd })
    expect(readdirSync(cwd)).toEqual(['a\ufffd'])
  },
)
