import { memoryStorage, openImage, type Storage } from '@img/core'
import { describe, expect, it } from 'vitest'
import { parseConfig } from '../src/config-text.js'
import { writeConfig } from '../src/config-writer.js'
import { lvm } from '../src/format.js'
import { GroupEditor } from '../src/group-editor.js'
import { readMetadataText } from '../src/metadata-area.js'
import { findPhysicalVolumes } from '../src/scan.js'
import { type Changing, makeGroup, openGroup } from './support/group.js'
import { scenarios } from './support/scenarios.js'

describe('metadata text', () => {
  const sound = scenarios.filter(({ name }) => !name.startsWith('bad-'))
  it.each(sound.map((scenario) => [scenario.name, scenario] as const))(
    'of %s is written as lvm2 wrote it',
    async (_, { disks }) => {
      for (const disk of disks()) {
        for (const { storage, label } of await findPhysicalVolumes(memoryStorage(disk))) {
          for (const area of label.metadataAreas) {
            const text = await readMetadataText(storage, area)
            if (text === undefined) continue
            const comment = /^# (.*)$/m.exec(text)?.[1] ?? ''
            // What follows the header's values as a comment is not kept.
            const plain = text.replace(/^(creation_.*?)\t#.*$/gm, '$1')
            expect(writeConfig(parseConfig(text, 'text'), comment).trimEnd()).toBe(plain.trimEnd())
          }
        }
      }
    },
  )

  it('keeps what is not known, and numbers the next version', async () => {
    const disks = await makeGroup([8 * 2 ** 20], { extent_size: '64k' })
    const [pv] = await findPhysicalVolumes(memoryStorage(disks[0] as Uint8Array))
    const text = (await readMetadataText(pv?.storage as Storage, pv?.label.metadataAreas[0] as never)) ?? ''
    const newer = text.replace('max_lv = 0', 'max_lv = 0\nnewer = ["a\\"b", 7]\nhistory {\nlv = "x"\n}')
    const editor = new GroupEditor(parseConfig(newer, 'text'))
    editor.editGroup(({ values }) => values.set('tags', ['t']))
    const written = editor.text('test', { time: 1, host: 'host' })
    expect(written).toContain('newer = ["a\\"b", 7]')
    expect(written).toContain('history {\nlv = "x"\n}')
    expect(written).toContain('seqno = 2')
    const huge = parseConfig(text.replace('max_lv = 0', 'max_lv = 18446744073709551615'), 'text')
    expect(() => new GroupEditor(huge).text('test', { time: 1, host: 'host' })).toThrow('too large')
  })
})

/** A storage that fails after so many writes, as in a power cut in which what was not flushed is lost or not. */
function cutAfter(
  disk: Uint8Array,
  writes: number,
): { readonly storage: Storage; readonly bytes: Uint8Array } {
  const storage = memoryStorage(disk)
  const write = storage.write.bind(storage)
  let left = writes
  Object.assign(storage, {
    write: async (offset: number, bytes: Uint8Array) => {
      if (left-- <= 0) throw new Error('power cut')
      await write(offset, bytes)
    },
  })
  return { storage, bytes: disk }
}

it('a power cut at any write leaves the old version or the new one, in a ring that comes round', async () => {
  const [start] = (await makeGroup([8 * 2 ** 20], {
    extent_size: '64k',
    metadata_size: '8k',
    data_alignment: '16k',
    metadata_copies: 2,
  })) as [Uint8Array]
  let disk = start
  for (let round = 0; round < 12; round++) {
    for (let cut = 0; ; cut++) {
      const { storage, bytes } = cutAfter(disk.slice(), cut)
      let done = true
      {
        await using image = await openImage(storage, {
          format: lvm,
          writable: true,
          options: { seed: `${round}` },
        })
        const change = (image.volumes as Changing).tag(undefined, {
          add: [`t${round}`],
          remove: [`t${round - 1}`],
        })
        await change.catch(() => {
          done = false
        })
      }
      await using after = await openGroup([bytes])
      const { tags, sequence } = await (after.volumes as Changing).info()
      expect([round + 1, round + 2]).toContain(sequence)
      expect(tags).toEqual(sequence === round + 2 ? [`t${round}`] : round === 0 ? [] : [`t${round - 1}`])
      if (done) {
        disk = bytes
        break
      }
    }
  }
})

it('text that does not fit beside the one in use is refused, and nothing changes', async () => {
  const disks = await makeGroup([8 * 2 ** 20], {
    extent_size: '64k',
    metadata_size: '8k',
    data_alignment: '16k',
  })
  await using image = await openGroup(disks)
  const store = image.volumes as Changing
  let made = 0
  const filling = (async () => {
    for (; made < 100; made++) await store.create({ name: `volume${made}`, size: 1 })
  })()
  await expect(filling).rejects.toMatchObject({ code: 'IMG_NO_SPACE' })
  expect((await store.info()).volumes).toHaveLength(made)
  await using again = await openGroup(disks)
  expect((await (again.volumes as Changing).info()).volumes).toHaveLength(made)
})

describe('a group that is not ours to change', () => {
  it.each([
    ['status = ["RESIZEABLE", "READ", "WRITE"]', 'status = ["EXPORTED", "READ", "WRITE"]', 'IMG_UNSUPPORTED'],
    ['status = ["RESIZEABLE", "READ", "WRITE"]', 'status = ["RESIZEABLE", "READ"]', 'IMG_READ_ONLY'],
    ['max_lv = 0', 'max_lv = 0\nlock_type = "sanlock"', 'IMG_UNSUPPORTED'],
    ['max_lv = 0', 'max_lv = 0\nsystem_id = "other"', 'IMG_UNSUPPORTED'],
    ['type = "striped"', 'type = "newer"', 'IMG_UNSUPPORTED'],
    ['type = "striped"', 'type = "striped+NEW"', 'IMG_UNSUPPORTED'],
  ])('%s → %s', async (from, to, code) => {
    const { assertWritableGroup } = await import('../src/writable-group.js')
    const { volumeGroupOf } = await import('../src/volume-group.js')
    const disks = await makeGroup([8 * 2 ** 20], { extent_size: '64k' })
    {
      await using image = await openGroup(disks)
      await (image.volumes as Changing).create({ name: 'root', size: 1 })
    }
    const [pv] = await findPhysicalVolumes(memoryStorage(disks[0] as Uint8Array))
    const text = (await readMetadataText(pv?.storage as Storage, pv?.label.metadataAreas[0] as never)) ?? ''
    const group = (changed: string) => volumeGroupOf(parseConfig(changed, 'text'), 'text')
    expect(() => assertWritableGroup(group(text), [])).not.toThrow()
    expect(text).toContain(from)
    expect(() => assertWritableGroup(group(text.replace(from, to)), [])).toThrow(
      expect.objectContaining({ code }),
    )
  })
})
