import { MemoryStorage } from '@tooling/test-disks/storage'

type Event =
  | { readonly kind: 'write'; readonly offset: number; readonly bytes: Uint8Array }
  | { readonly kind: 'truncate'; readonly size: number }
  | { readonly kind: 'flush' }

/** Remembers everything that was written, to tell what a power cut could leave. */
export class PowerStorage extends MemoryStorage {
  readonly events: Event[] = []
  readonly #start: Uint8Array

  constructor(bytes: Uint8Array) {
    super(bytes.slice())
    this.#start = bytes.slice()
  }

  protected override put(offset: number, bytes: Uint8Array): void {
    this.events.push({ kind: 'write', offset, bytes: bytes.slice() })
    super.put(offset, bytes)
  }

  protected override cut(size: number): void {
    this.events.push({ kind: 'truncate', size })
    super.cut(size)
  }

  override async flush(): Promise<void> {
    this.events.push({ kind: 'flush' })
  }

  /**
   * The file after a cut at event `at`: everything up to the last flush before, and of what came after it each change
   * that `survives`.
   */
  after(at: number, survives: () => boolean): Uint8Array {
    const events = this.events.slice(0, at)
    const flushed = events.map(({ kind }) => kind).lastIndexOf('flush')
    const file = new MemoryStorage(this.#start.slice())
    for (const [i, event] of events.entries()) {
      if (event.kind === 'flush' || (i > flushed && !survives())) continue
      if (event.kind === 'write') file.writeSync?.(event.offset, event.bytes)
      else void file.truncate(event.size)
    }
    return file.content().slice()
  }
}
