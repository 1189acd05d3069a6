import { Trial } from '../hostile/trial.js'
import { ImageFiles } from '../image-files.js'
import type { Kit } from '../kit.js'
import { spread } from '../random.js'
import type { It } from '../runner.js'
import { SparseBytes } from '../sparse-bytes.js'
import { strangers } from '../strangers.js'

/** Numbers that break what is not checked. */
const evil = [0, 1, 0x7fff_ffff, 0x8000_0000, 0xffff_fff8, 0xffff_ffff]

/** Images that are cut short or made to harm: only ImageErrors, bounded work and memory, and nothing written. */
export function hostile(kit: Kit, it: It): void {
  for (const source of kit.smallSources) {
    it(`survives ${source.name}, cut at every sector`, async () => {
      const trial = await Trial.of(kit, await source.specimen())
      const { size } = trial.specimen.files.main
      const sectors = Array.from({ length: Math.ceil(size / 512) }, (_, i) => i * 512)
      for (const cut of new Set([1, 100, size - 1, ...spread(sectors, kit.times(300))])) {
        if (cut >= size) continue
        const files = trial.specimen.files.fork()
        files.main.truncate(cut)
        await trial.run(files, `cut to ${cut} bytes`, true)
      }
    })

    it(`survives ${source.name}, with bits of its metadata flipped`, async () => {
      const trial = await Trial.of(kit, await source.specimen())
      const random = kit.random(`flips ${source.name}`)
      for (const at of spread(trial.metadata, kit.times(1200))) {
        const bit = random.below(8)
        const flip = (bytes: Uint8Array): void => {
          bytes[0] = (bytes[0] as number) ^ (1 << bit)
        }
        await trial.runChanged(at, 1, flip, `bit ${bit} of byte ${at} flipped`)
      }
    })

    it(`survives ${source.name}, with numbers of its metadata replaced`, async () => {
      const trial = await Trial.of(kit, await source.specimen())
      const places = [...new Set(trial.metadata.map((at) => at - (at % 4)))]
      for (const at of spread(places, kit.times(80))) {
        for (const value of evil) {
          for (const little of [false, true]) {
            const how = `0x${value.toString(16)} at byte ${at}${little ? ', little-endian' : ''}`
            const put = (bytes: Uint8Array): void => new DataView(bytes.buffer).setUint32(0, value, little)
            await trial.runChanged(at, 4, put, how)
          }
        }
      }
    })
  }

  if (kit.subject.format.probe === undefined) return
  it('refuses files of others, and random bytes behind its own magic', async () => {
    const [source] = kit.smallSources
    if (!source) return
    const trial = await Trial.of(kit, await source.specimen())
    for (const { name, bytes } of [...strangers(kit.subject.format), ...(kit.subject.others ?? [])]) {
      await trial.refuses(new ImageFiles(SparseBytes.of(bytes)), name)
    }
    const random = kit.random('behind magic')
    for (let i = 0; i < kit.times(200); i++) {
      const kept = 8 + random.below(56)
      const bytes = SparseBytes.of(trial.specimen.files.main.slice(0, kept))
      bytes.write(kept, random.bytes(512 + random.below(4096)))
      await trial.run(new ImageFiles(bytes), `its first ${kept} bytes and then random ones`, false)
    }
  })
}
