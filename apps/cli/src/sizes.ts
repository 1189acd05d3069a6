import { parseSize } from '@img/core'
import { Failure } from './errors.js'

const suffixHelp = 'You may use k, M, G, T, P or E suffixes for'
const suffixNames = 'kilobytes, megabytes, gigabytes, terabytes, petabytes and exabytes.'

/**
 * Bytes of a size as typed. `what` names the argument in the message, as in "Invalid image size specified".
 * @throws {Failure} for what is no size, and beyond 2^53 - 1 bytes.
 */
export function sizeArgument(what: string, text: string): number {
  const size = parseSize(text.replace(/^\s*\+?/, ''))
  if (size !== undefined) return size
  if (/^\s*\+?(0x[\da-f]+|\d+(\.\d*)?[kmgtpe]|\d+(\.0*)?b?)$/i.test(text)) {
    throw new Failure(`Invalid ${what} specified. Must be between 0 and ${Number.MAX_SAFE_INTEGER}.`)
  }
  throw new Failure(`Invalid ${what} specified. ${suffixHelp}`, { more: [suffixNames] })
}

/** C's `%.2f` of a number below 2^40: exact halves go to the even digit, which JavaScript's `toFixed` rounds up. */
export function twoDecimals(value: number): string {
  const isTie = (value * 8) % 2 === 1
  const below = Math.floor(value * 100)
  return (isTie ? (below % 2 === 0 ? below : below + 1) / 100 : value).toFixed(2)
}

const units = ['', 'Ki', 'Mi', 'Gi', 'Ti', 'Pi', 'Ei']

/** A size for people, as qemu-img writes it: three significant digits, `1.5 MiB`, `512 B`. */
export function humanSize(bytes: number): string {
  // The next unit is taken from 1000 on, so that there are never four digits before the point.
  let exponent = 0
  for (let left = bytes * 1.024; left >= 2; left /= 2) exponent++
  const unit = Math.floor(exponent / 10)
  return `${threeDigits(BigInt(bytes), 1024n ** BigInt(unit))} ${units[unit]}B`
}

/** C's `%.3g` of a quotient: exact, ties to even, no trailing zeros. */
function threeDigits(value: bigint, divisor: bigint): string {
  const whole = value / divisor
  if (whole >= 1000n || (whole === 999n && roundedQuotient(value, divisor) === 1000n)) {
    const rounded = roundedQuotient(value, divisor * 10n)
    return `${trimZeros(withPoint(rounded, 2))}e+03`
  }
  // From 0.977 on the next unit is used, so the first decimal is never 0.
  const decimals = whole >= 100n ? 0 : whole >= 10n ? 1 : whole >= 1n || value === 0n ? 2 : 3
  const rounded = roundedQuotient(value * 10n ** BigInt(decimals), divisor)
  return trimZeros(withPoint(rounded, decimals))
}

function roundedQuotient(value: bigint, divisor: bigint): bigint {
  const quotient = value / divisor
  const twice = (value % divisor) * 2n
  const up = twice > divisor || (twice === divisor && quotient % 2n === 1n)
  return up ? quotient + 1n : quotient
}

function withPoint(digits: bigint, decimals: number): string {
  const text = digits.toString().padStart(decimals + 1, '0')
  return decimals === 0 ? text : `${text.slice(0, -decimals)}.${text.slice(-decimals)}`
}

function trimZeros(text: string): string {
  return text.includes('.') ? text.replace(/\.?0+$/, '') : text
}
