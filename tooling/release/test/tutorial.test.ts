import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { tutorialBlocks } from '../src/tutorial-blocks.js'

const root = fileURLToPath(new URL('../../../', import.meta.url))

test('blocks are files or commands, in order', () => {
  const text = 'Text\n```ts file=src/a.ts\nconst a = 1\n\n```\nmore\n```sh\nnpm test\n```\n'
  expect(tutorialBlocks(text)).toEqual([
    { line: 2, file: 'src/a.ts', text: 'const a = 1\n\n' },
    { line: 7, file: undefined, text: 'npm test\n' },
  ])
})

test('a block that nothing would run is refused', () => {
  for (const info of ['', 'ts', 'js file=', 'sh file=a b', 'text', ' sh'])
    expect(() => tutorialBlocks(`\`\`\`${info}\nx\n\`\`\`\n`)).toThrow('line 1')
  expect(() => tutorialBlocks('  ```ts\nx\n  ```\n')).toThrow('line 1')
  expect(() => tutorialBlocks('```sh\nnpm test\n')).toThrow('does not end')
})

test('the tutorial ends with the files that npm create img-format writes', () => {
  const files = new Map(
    tutorialBlocks(readFileSync(`${root}docs/writing-a-format.md`, 'utf8')).map(({ file, text }) => [
      file,
      text,
    ]),
  )
  const template = `${root}packages/create-img-format/templates/`
  const paths = ['src', 'test'].flatMap((dir) => readdirSync(template + dir).map((name) => `${dir}/${name}`))
  for (const path of [...paths, 'tsconfig.json', 'tsup.config.ts']) {
    expect(files.get(path), path).toBe(readFileSync(template + path, 'utf8'))
  }
})
