/** One bit for each sector, the lowest first: 1 where the image holds it. */
export class Bitmap {
  readonly bytes: Uint8Array
  /** Sectors of the disk. Bits behind them mean nothing. */
  readonly sectors: number

  constructor(bytes: Uint8Array, sectors: number) {
    this.bytes = bytes
    this.sectors = sectors
  }

  /** True where the image holds a sector. */
  has(sector: number): boolean {
    return bit(this.bytes[Math.floor(sector / 8)] as number, sector % 8)
  }

  /** How many sectors from `first` on, up to `limit`, are all held, or all not. */
  run(first: number, limit: number): number {
    const value = this.has(first)
    const whole = value ? 0xff : 0
    let at = first + 1
    while (at < limit) {
      if (at % 8 === 0) {
        let byte = at / 8
        while (byte * 8 < limit && this.bytes[byte] === whole) byte++
        at = byte * 8
        if (at >= limit) break
      }
      if (this.has(at) !== value) break
      at++
    }
    return Math.min(at, limit) - first
  }

  /** Marks sectors [first, end). */
  mark(first: number, end: number, held: boolean): void {
    for (let at = first; at < end; ) {
      const byte = Math.floor(at / 8)
      if (at % 8 === 0 && at + 8 <= end) {
        const whole = Math.floor(end / 8)
        this.bytes.fill(held ? 0xff : 0, byte, whole)
        at = whole * 8
        continue
      }
      const old = this.bytes[byte] as number
      if (bit(old, at % 8) !== held) this.bytes[byte] = held ? old + 2 ** (at % 8) : old - 2 ** (at % 8)
      at++
    }
  }
}

function bit(byte: number, index: number): boolean {
  return Math.floor(byte / 2 ** index) % 2 === 1
}
