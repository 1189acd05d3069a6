import type { DiskImage } from '@img/core'
import type { Command } from 'commander'
import { isCacheMode } from '../cache-mode.js'
import type { Context } from '../context.js'
import { Failure, usageError } from '../errors.js'
import { openNamed } from '../open.js'
import { qemuJson } from '../output/json.js'
import { printOut } from '../output/write.js'
import { secretsOf } from '../secrets/index.js'
import { sizeArgument } from '../sizes.js'
import { defineSource, type Invocation, type Options, sourceArguments, type Verb } from '../verb.js'

const examples = `
Examples:
  img bench -c 10000 -d 32 disk.qcow2
  img bench -w -s 64k --pattern=170 scratch.qcow2
`

/** What is timed. */
interface Plan {
  readonly count: number
  readonly depth: number
  readonly write: boolean
  /** Bytes of one request. */
  readonly length: number
  readonly offset: number
  readonly step: number
  readonly pattern: number
  /** Requests from flush to flush; 0: none. */
  readonly flushInterval: number
  /** Wait for all requests before a flush. */
  readonly drain: boolean
}

/** `img bench`: times reads or writes of an image. */
export const bench: Verb = {
  define(command: Command) {
    defineSource(command)
      .usage('[options] FILE')
      .option('-c, --count <count>', 'requests (default: 75000)')
      .option('-d, --depth <depth>', 'requests at the same time (default: 64)')
      .option('-f, --format <format>', 'format of the image; found by itself where left out')
      .option('-s, --buffer-size <size>', 'bytes of one request (default: 4k)')
      .option('-S, --step-size <size>', 'from request to request (default: the size of one)')
      .option('-o, --offset <offset>', 'of the first request (default: 0)')
      .option('-w, --write', 'write: the content of the image is lost')
      .option('--pattern <byte>', 'with -w: the byte that is written (default: 0)')
      .option('--flush-interval <count>', 'with -w: flush after so many requests')
      .option('--no-drain', 'flush without waiting for the requests before')
      .option('-t, --cache <cache>', "cache mode, for qemu-img's sake")
      .option('-i, --aio <aio>', "threads, native or io_uring, for qemu-img's sake")
      .option('-n, --native', "native I/O, for qemu-img's sake")
      .option('-q, --quiet', "for qemu-img's sake")
      .addHelpText('after', examples)
  },

  async run({ operands, options }: Invocation, context: Context) {
    const plan = readPlan(options)
    const secret = await secretsOf(options, context.warn)
    const [filename] = operands
    if (operands.length !== 1 || filename === undefined) throw usageError('Expecting one image file name')
    if (plan.flushInterval > 0 && !plan.write) {
      throw new Failure('--flush-interval is only available in write tests')
    }
    if (plan.flushInterval > 0 && plan.flushInterval < plan.depth) {
      throw new Failure("Flush interval can't be smaller than depth")
    }
    const direct = ['none', 'off', 'directsync'].includes(options.cache as string)
    if ((options.native === true || options.aio === 'native') && !direct) {
      throw new Failure(
        `Could not open '${filename}': aio=native was specified, but it requires cache.direct=on, which was not specified.`,
      )
    }
    const signal = context.signal()
    await using image = await openNamed(
      filename,
      {
        format: options.format as string | undefined,
        ...sourceArguments(options),
        forceShare: options.forceShare === true,
        writable: plan.write,
        signal,
        secret,
      },
      context,
    )
    if (plan.write && image.write === undefined) {
      throw new Failure(`format ${image.format.name} cannot be written in place`)
    }
    if (image.size === 0) throw new Failure('the image has no room for a request')
    const { count, depth, length, offset, step, flushInterval, write } = plan
    context.announce(
      `Sending ${count} ${write ? 'write' : 'read'} requests, ${length} bytes each, ${depth} in parallel ` +
        `(starting at offset ${offset}, step size ${step})`,
    )
    if (flushInterval > 0) context.announce(`Sending flush every ${flushInterval} requests`)
    const start = performance.now()
    await send(image, plan, signal)
    const seconds = ((performance.now() - start) / 1000).toFixed(3)
    if (context.globals.json === true) {
      const kind = write ? 'write' : 'read'
      printOut(`${qemuJson({ kind, count, depth, length, offset, step, seconds: Number(seconds) })}\n`)
    } else printOut(`Run completed in ${seconds} seconds.\n`)
    return 0
  },
}

const maxInt = 2 ** 31 - 1

function whole(
  options: Options,
  name: string,
  what: string,
  otherwise: number,
  min = 0,
  max = maxInt,
): number {
  const text = options[name]
  if (text === undefined) return otherwise
  const value = /^(0x[\da-f]+|\d+)$/i.test(String(text)) ? Number(text) : Number.NaN
  if (!(value >= min && value <= max)) throw new Failure(`Invalid ${what} specified`)
  return value
}

function bytes(options: Options, name: string, what: string, otherwise: number): number {
  const text = options[name]
  return text === undefined ? otherwise : sizeArgument(what, String(text))
}

function readPlan(options: Options): Plan {
  if (options.cache !== undefined && !isCacheMode(options.cache)) throw new Failure('Invalid cache mode')
  const { aio } = options
  if (aio !== undefined && aio !== 'threads' && aio !== 'native' && aio !== 'io_uring') {
    throw new Failure(`Invalid aio option: ${String(aio)}`)
  }
  const length = bytes(options, 'bufferSize', 'buffer size', 4096)
  if (length > maxInt) throw new Failure(`Invalid buffer size specified. Must be between 0 and ${maxInt}.`)
  const step = bytes(options, 'stepSize', 'step_size', 0)
  return {
    count: whole(options, 'count', 'request count', 75000),
    // With none at a time nothing would ever be sent.
    depth: whole(options, 'depth', 'queue depth', 64, 1),
    write: options.write === true,
    length,
    offset: bytes(options, 'offset', 'offset', 0),
    step: step === 0 ? length : step,
    pattern: whole(options, 'pattern', 'pattern byte', 0, 0, 255),
    flushInterval: whole(options, 'flushInterval', 'flush interval', 0),
    drain: options.drain !== false,
  }
}

/** Sends all requests, `depth` at a time. */
async function send(image: DiskImage, plan: Plan, signal: AbortSignal): Promise<void> {
  const { count, length, step, write, flushInterval, drain } = plan
  let next = plan.offset
  let sent = 0
  const data = new Uint8Array(length).fill(plan.pattern)
  const request = async (into: Uint8Array): Promise<void> => {
    const at = next
    next = (next + step) % image.size
    sent++
    if (length === 0) return
    if (at + length > image.size) throw new Failure('Failed request: Input/output error')
    await (write ? image.write?.(at, data) : image.read(at, into))
  }
  const worker = async (limit: number): Promise<void> => {
    const into = write ? data : new Uint8Array(length)
    while (sent < limit) {
      signal.throwIfAborted()
      await request(into)
      if (flushInterval > 0 && !drain && sent % flushInterval === 0) await image.flush?.()
    }
  }
  while (sent < count) {
    const limit = flushInterval > 0 && drain ? Math.min(count, sent + flushInterval) : count
    const depth = Math.min(plan.depth, limit - sent)
    await Promise.all(Array.from({ length: depth }, () => worker(limit)))
    if (flushInterval > 0 && drain && sent % flushInterval === 0) await image.flush?.()
  }
}
