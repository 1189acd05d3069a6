import { existsSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { fileURLToPath } from 'node:url'
import type { Worker } from 'node:worker_threads'
import { type CodecName, type CompressionSpec, ImageError, type IoOptions, pageAligned } from '@img/core'
import type { WorkerFailure, WorkerRequest, WorkerResponse } from './worker-messages.js'

/** Options of {@link createWorkerPool}. */
export interface WorkerPoolOptions {
  /** Threads at most. They start when there is work for them. Default: one for each processor. */
  readonly threads?: number | undefined
  /** The worker's script, where a bundler has moved it. Default: `worker.js` beside this module. */
  readonly script?: URL | undefined
}

/** Options of a job of a {@link WorkerPool}. */
export interface WorkerJobOptions extends IoOptions {
  /**
   * Hands the buffer of the bytes over instead of copying them: neither it nor any view of it can be used afterwards. All
   * units must then be views of one buffer. Default false.
   */
  readonly transfer?: boolean | undefined
}

/**
 * Threads that compress and decompress. Every call resolves on its own: the order of results is the order in which the
 * caller awaits them. A codec's bytes are the same as in the calling thread, whatever the number of threads.
 * Units in shared memory are not copied, and a compressed one that is shorter stands at the start of its unit: they must
 * not be touched before the call has resolved.
 * Calls reject with the signal's reason when aborted, and IMG_CLOSED after `close`.
 */
export interface WorkerPool extends AsyncDisposable {
  /** Threads at most. */
  readonly threads: number
  /** Compresses one unit. @throws {ImageError} IMG_UNSUPPORTED. @throws {RangeError} for a level that the codec does not have. */
  compress(bytes: Uint8Array, spec: CompressionSpec, options?: WorkerJobOptions): Promise<Uint8Array>
  /** Compresses several units in one thread, one message each way. */
  compressAll(
    units: readonly Uint8Array[],
    spec: CompressionSpec,
    options?: WorkerJobOptions,
  ): Promise<readonly Uint8Array[]>
  /**
   * Decompresses one unit to exactly `outputLength` bytes.
   * @throws {ImageError} IMG_CORRUPT for damaged data, or data of another length.
   */
  decompress(
    bytes: Uint8Array,
    codec: CodecName,
    outputLength: number,
    options?: WorkerJobOptions,
  ): Promise<Uint8Array>
  /** Decompresses several units in one thread, into one buffer. `outputLengths`: bytes that each is to give. */
  decompressAll(
    units: readonly Uint8Array[],
    codec: CodecName,
    outputLengths: readonly number[],
    options?: WorkerJobOptions,
  ): Promise<readonly Uint8Array[]>
  /** Ends all threads; what is not done rejects with IMG_CLOSED. Idempotent. */
  close(): Promise<void>
}

/** Makes a buffer that worker threads see too: what they compress there is not copied. */
export function sharedMemory(length: number): Uint8Array {
  return pageAligned(length, { shared: true })
}

/** Makes a pool of worker threads. An idle pool does not keep the process alive. */
export function createWorkerPool(options: WorkerPoolOptions = {}): WorkerPool {
  return new Pool(options.threads ?? availableParallelism(), options.script ?? defaultScript())
}

/** The built worker: also where this module runs from its source, which a thread of Node 20 cannot. */
function defaultScript(): URL {
  const beside = new URL('./worker.js', import.meta.url)
  return existsSync(fileURLToPath(beside)) ? beside : new URL('../dist/worker.js', import.meta.url)
}

/** Without the `id` that the pool gives. */
type Request = WorkerRequest extends infer R ? (R extends WorkerRequest ? Omit<R, 'id'> : never) : never

interface Job {
  readonly request: Request
  /** To be handed over; absent where the units lie in shared memory. */
  readonly buffer: ArrayBuffer | undefined
  resolve(units: readonly Uint8Array[]): void
  reject(error: unknown): void
}

interface Thread {
  readonly worker: Worker
  readonly jobs: Map<number, Job>
}

/** Jobs that a thread has at most: the next one is there when it has done the first. */
const jobsEach = 2

function isShared(units: readonly Uint8Array[]): boolean {
  return units.every(({ buffer }) => buffer instanceof SharedArrayBuffer)
}

class Pool implements WorkerPool {
  readonly threads: number
  readonly #script: URL
  readonly #running = new Set<Thread>()
  readonly #queue: Job[] = []
  #lastId = 0
  #closing: Promise<void> | undefined

  constructor(threads: number, script: URL) {
    if (!Number.isSafeInteger(threads) || threads < 1)
      throw new RangeError(`threads must be 1 or more, not ${threads}`)
    this.threads = threads
    this.#script = script
  }

  async compress(bytes: Uint8Array, spec: CompressionSpec, options?: WorkerJobOptions): Promise<Uint8Array> {
    return first(await this.compressAll([bytes], spec, options))
  }

  compressAll(
    units: readonly Uint8Array[],
    { codec, level, windowBits }: CompressionSpec,
    options?: WorkerJobOptions,
  ): Promise<readonly Uint8Array[]> {
    const settings = {
      ...(level !== undefined && { level }),
      ...(windowBits !== undefined && { windowBits }),
    }
    const kind = isShared(units) ? 'compress-shared' : 'compress'
    return this.#run(units, (own) => ({ kind, codec, units: own, options: settings }), options)
  }

  async decompress(
    bytes: Uint8Array,
    codec: CodecName,
    outputLength: number,
    options?: WorkerJobOptions,
  ): Promise<Uint8Array> {
    return first(await this.decompressAll([bytes], codec, [outputLength], options))
  }

  decompressAll(
    units: readonly Uint8Array[],
    codec: CodecName,
    outputLengths: readonly number[],
    options?: WorkerJobOptions,
  ): Promise<readonly Uint8Array[]> {
    if (outputLengths.length !== units.length)
      return Promise.reject(new RangeError('one length is needed for each unit'))
    return this.#run(
      units,
      (own) => ({ kind: 'decompress', codec, units: own, lengths: outputLengths }),
      options,
    )
  }

  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  async #close(): Promise<void> {
    const threads = [...this.#running]
    this.#running.clear()
    for (const job of this.#queue.splice(0)) job.reject(closed())
    for (const { jobs } of threads) for (const job of jobs.values()) job.reject(closed())
    await Promise.all(threads.map(({ worker }) => worker.terminate()))
  }

  async #run(
    units: readonly Uint8Array[],
    request: (units: readonly Uint8Array[]) => Request,
    { signal, transfer = false }: WorkerJobOptions = {},
  ): Promise<readonly Uint8Array[]> {
    signal?.throwIfAborted()
    if (this.#closing !== undefined) throw closed()
    if (units.length === 0) return []
    const shared = isShared(units)
    const own = transfer || shared ? units : copyTogether(units)
    const buffer = shared ? undefined : commonBuffer(own)
    return new Promise((resolve, reject) => {
      const job: Job = {
        request: request(own),
        buffer,
        resolve: (done) => {
          signal?.removeEventListener('abort', abort)
          resolve(done)
        },
        reject: (error) => {
          signal?.removeEventListener('abort', abort)
          reject(error)
        },
      }
      // A job that a thread has begun runs to its end, and nobody hears of it.
      const abort = (): void => {
        const place = this.#queue.indexOf(job)
        if (place >= 0) this.#queue.splice(place, 1)
        job.reject(signal?.reason)
      }
      signal?.addEventListener('abort', abort, { once: true })
      this.#queue.push(job)
      this.#dispatch()
    })
  }

  #dispatch(): void {
    while (this.#queue.length > 0) {
      const thread = this.#freest()
      if (thread === undefined) return
      const job = this.#queue.shift() as Job
      const id = ++this.#lastId
      thread.jobs.set(id, job)
      thread.worker.ref()
      thread.worker.postMessage({ ...job.request, id }, job.buffer ? [job.buffer] : [])
    }
  }

  /** The thread to give the next job to; a new one where all have work. Undefined: all have enough. */
  #freest(): Thread | undefined {
    let best: Thread | undefined
    for (const thread of this.#running)
      if (best === undefined || thread.jobs.size < best.jobs.size) best = thread
    if ((best === undefined || best.jobs.size > 0) && this.#running.size < this.threads) return this.#start()
    return best !== undefined && best.jobs.size < jobsEach ? best : undefined
  }

  #start(): Thread {
    // What this process was started with (loaders, inspector) is not the worker's business.
    // The module is loaded when needed, as it would cost every program 3 ms.
    const threads = process.getBuiltinModule('node:worker_threads')
    const worker = new threads.Worker(this.#script, {
      name: 'img-codec',
      execArgv: [],
      resourceLimits: { maxYoungGenerationSizeMb: 4 },
    })
    const thread: Thread = { worker, jobs: new Map() }
    worker.unref()
    worker.on('message', (response: WorkerResponse) => {
      const job = this.#finish(thread, response.id)
      if ('failure' in response) job?.reject(errorOf(response.failure))
      else job?.resolve(response.units)
      this.#dispatch()
    })
    worker.on('messageerror', (error) => this.#lost(thread, error))
    worker.on('error', (error) => this.#lost(thread, error))
    worker.on('exit', (code) => this.#lost(thread, new Error(`it ended with code ${code}`)))
    this.#running.add(thread)
    return thread
  }

  #finish(thread: Thread, id: number): Job | undefined {
    const job = thread.jobs.get(id)
    thread.jobs.delete(id)
    if (thread.jobs.size === 0) thread.worker.unref()
    return job
  }

  /** A thread died: its jobs fail; others go on, and new threads may start. */
  #lost(thread: Thread, cause: unknown): void {
    if (!this.#running.delete(thread)) return
    void thread.worker.terminate()
    const error = new ImageError('IMG_IO', `a worker thread failed: ${(cause as Error).message}`, { cause })
    for (const job of thread.jobs.values()) job.reject(error)
    thread.jobs.clear()
    this.#dispatch()
  }
}

function first(units: readonly Uint8Array[]): Uint8Array {
  return units[0] as Uint8Array
}

/** Copies units into one new buffer. */
function copyTogether(units: readonly Uint8Array[]): Uint8Array[] {
  const all = new Uint8Array(units.reduce((sum, { length }) => sum + length, 0))
  let end = 0
  return units.map((unit) => {
    all.set(unit, end)
    end += unit.length
    return all.subarray(end - unit.length, end)
  })
}

function commonBuffer(units: readonly Uint8Array[]): ArrayBuffer {
  const { buffer } = first(units)
  if (!(buffer instanceof ArrayBuffer) || units.some((unit) => unit.buffer !== buffer)) {
    throw new TypeError('units can be handed over only together, as views of one ArrayBuffer')
  }
  // Throws where it was handed over before: the thread would get a message that it cannot read.
  new Uint8Array(buffer)
  return buffer
}

function closed(): ImageError {
  return new ImageError('IMG_CLOSED', 'the worker pool is closed')
}

const errorClasses: Readonly<Record<string, new (message: string) => Error>> = { RangeError, TypeError }

function errorOf({ name, message, code, details }: WorkerFailure): Error {
  if (code !== undefined) return new ImageError(code, message, details)
  return new (errorClasses[name] ?? Error)(message)
}
