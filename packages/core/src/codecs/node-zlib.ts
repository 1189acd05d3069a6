/** Options of the one-shot calls, as far as used here. Sizes in bytes. */
export interface NodeZlibOptions {
  readonly level?: number
  readonly windowBits?: number
  readonly memLevel?: number
  readonly finishFlush?: number
  readonly chunkSize?: number
  readonly maxOutputLength?: number
  readonly params?: Record<number, number>
}

type OneShot = (input: Uint8Array, options?: NodeZlibOptions) => Uint8Array

/** The part of Node's `zlib` module that codecs use. Declared here because core has no Node types. */
export interface NodeZlib {
  readonly constants: Record<string, number | undefined>
  readonly deflateSync: OneShot
  readonly inflateSync: OneShot
  readonly deflateRawSync: OneShot
  readonly inflateRawSync: OneShot
  /** Node 22.15, 23.8 and later. */
  readonly zstdCompressSync?: OneShot
  readonly zstdDecompressSync?: OneShot
  createDeflate(options?: NodeZlibOptions): unknown
  createInflate(options?: NodeZlibOptions): unknown
  createDeflateRaw(options?: NodeZlibOptions): unknown
  createInflateRaw(options?: NodeZlibOptions): unknown
}

interface HostProcess {
  readonly versions?: Record<string, string | undefined>
  readonly getBuiltinModule?: (id: string) => unknown
}

function hostProcess(): HostProcess | undefined {
  return (globalThis as { process?: HostProcess }).process
}

/** Node's `zlib`, had without an import so that core loads anywhere. Undefined in browsers. */
export function nodeZlib(): NodeZlib | undefined {
  const zlib = hostProcess()?.getBuiltinModule?.('node:zlib') as Partial<NodeZlib> | undefined
  return typeof zlib?.inflateRawSync === 'function' ? (zlib as NodeZlib) : undefined
}

/** Major version of Node itself; undefined elsewhere, also in runtimes that imitate it (Bun, Deno). */
export function nodeMajor(): number | undefined {
  const versions = hostProcess()?.versions
  if (versions?.node === undefined || versions.bun || versions.deno) return undefined
  return Number.parseInt(versions.node, 10)
}
