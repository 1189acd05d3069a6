import { createRegistry, matchesMagic, type Probe, type ProbeInput, probeFormat } from '@img/core'
import { check, fail, works } from '../fault.js'
import type { Kit } from '../kit.js'
import type { It } from '../runner.js'
import { SparseBytes } from '../sparse-bytes.js'
import { kitStorage } from '../storages/kit-storage.js'
import { strangers } from '../strangers.js'

/** Recognising files by their bytes. */
export function probe(kit: Kit, it: It): void {
  const { format } = kit.subject
  const probe = format.probe
  if (probe === undefined) return

  it('asks for no more bytes than it may have', async () => {
    const { head, tail = 0 } = probe
    check(Number.isSafeInteger(head) && head >= 0, `head is ${head}`)
    check(head <= 1024 * 1024, `head is ${head} bytes; at most 1 MiB may be read`)
    check(Number.isSafeInteger(tail) && tail >= 0, `tail is ${tail}`)
    check(tail <= 64 * 1024, `tail is ${tail} bytes; at most 64 KiB may be read`)
    check(head + tail > 0, 'it asks for no bytes at all')
  })

  for (const source of kit.sources) {
    it(`recognises ${source.name}`, async () => {
      const { files } = await source.specimen()
      const input = inputOf(probe, files.main)
      check(ask(probe, input, source.name), `${source.name} is not recognised`)
      check(
        ask(probe, { ...input, label: 'download(1).bin' }, source.name),
        `${source.name} is not recognised under another file name`,
      )
      const magics = format.magic
      const tail = files.main.slice(Math.max(0, files.main.size - 65536), Math.min(65536, files.main.size))
      check(
        magics.length === 0 ||
          magics.some((magic) => matchesMagic(magic, files.main.slice(0, 1024 * 1024), tail)),
        `none of its magic numbers is in ${source.name}`,
      )
    })

    it(`finds ${source.name} through the registry, reading only what was asked for`, async () => {
      const { files } = await source.specimen()
      let farthest = 0
      const most = Math.max(4096, probe.head)
      const mostTail = Math.max(4096, probe.tail ?? 0)
      const storage = kitStorage(files.main.fork(), {
        label: 'image of the test',
        readOnly: true,
        before: ({ offset, length }) => {
          if (offset >= files.main.size - mostTail) return
          farthest = Math.max(farthest, offset + length)
        },
      })
      const found = await works('probing', () => probeFormat(storage, { registry: createRegistry([format]) }))
      check(found === format, `${source.name} is not found by probing`)
      check(farthest <= most, `probing read up to byte ${farthest}; ${most} are declared`)
    })
  }

  it('is told apart from files of others', async () => {
    for (const { name, bytes } of [...strangers(format), ...(kit.subject.others ?? [])]) {
      const claimed = ask(probe, inputOf(probe, SparseBytes.of(bytes)), name)
      check(!claimed, `${name} is claimed, which is not of this format`)
    }
  })

  it('answers for random bytes, and never throws', async () => {
    const random = kit.random('probe')
    for (let i = 0; i < kit.times(200); i++) {
      const bytes = random.bytes(random.below(Math.min(8192, probe.head + (probe.tail ?? 0) + 64)))
      const claimed = ask(probe, inputOf(probe, SparseBytes.of(bytes)), `${bytes.length} random bytes`)
      check(!claimed, `${bytes.length} random bytes are claimed`)
    }
  })

  it('answers for images that are cut short or damaged, and never throws', async () => {
    const random = kit.random('probe damaged')
    for (const source of kit.smallSources) {
      const { files } = await source.specimen()
      const bytes = files.main.slice(0, Math.min(files.main.size, probe.head + 512))
      for (let i = 0; i <= kit.times(150); i++) {
        const length = i <= 64 ? i : random.below(bytes.length + 1)
        ask(
          probe,
          inputOf(probe, SparseBytes.of(bytes.slice(0, length))),
          `${source.name}, cut to ${length} bytes`,
        )
        const damaged = bytes.slice()
        const at = random.below(bytes.length)
        damaged[at] = random.below(256)
        ask(probe, inputOf(probe, SparseBytes.of(damaged)), `${source.name}, damaged at ${at}`)
      }
    }
  })

  it('looks at nothing but the bytes it is given, and leaves them as they are', async () => {
    for (const source of kit.sources) {
      const { files } = await source.specimen()
      const input = inputOf(probe, files.main)
      const wide = new Uint8Array(input.head.length + 8192).fill(0xa5)
      wide.set(input.head, 4096)
      const head = wide.subarray(4096, 4096 + input.head.length)
      const before = head.slice()
      const inside = ask(probe, { ...input, head }, source.name)
      check(
        inside === ask(probe, input, source.name),
        `${source.name}: bytes beyond those given change the answer`,
      )
      check(
        head.every((byte, i) => byte === before[i]),
        `${source.name}: the bytes given are changed`,
      )
    }
  })
}

function inputOf({ head, tail = 0 }: Probe, file: SparseBytes): ProbeInput {
  const tailLength = Math.min(tail, file.size)
  return {
    head: file.slice(0, Math.min(head, file.size)),
    tail: file.slice(file.size - tailLength, tailLength),
    size: file.size,
    label: 'image of the test',
  }
}

function ask(probe: Probe, input: ProbeInput, what: string): boolean {
  let answer: unknown
  try {
    answer = probe.matches(input)
  } catch (error) {
    fail(`matches() threw ${String(error)} for ${what}; it may never throw`, error)
  }
  check(
    typeof answer === 'boolean',
    `matches() answered ${String(answer)} for ${what}, which is not true or false`,
  )
  return answer
}
