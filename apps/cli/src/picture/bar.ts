import type { TerminalStyle } from '../terminal-style.js'

const barWidth = 40

/** How much of a disk is on the host, as a line: `████░░░░ 12.5% of the virtual size`. More than all of it fills the bar. */
export function sizeBar(hostSize: number, virtualSize: number, style: TerminalStyle): string {
  const share = virtualSize === 0 ? 1 : hostSize / virtualSize
  const cells = Math.min(barWidth, style.width - 30)
  const full = hostSize === 0 ? 0 : Math.min(cells, Math.max(1, Math.round(share * cells)))
  const [on, off] = style.unicode ? ['█', '░'] : ['#', '-']
  const colour = (text: string): string => (style.colour ? `\u001b[32m${text}\u001b[0m` : text)
  const bar = `${colour(on.repeat(full))}${off.repeat(cells - full)}`
  return `${style.unicode ? bar : `[${bar}]`} ${(share * 100).toFixed(1)}% of the virtual size`
}
